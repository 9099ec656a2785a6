"""`python -m thv_llm`: the same as running the built file."""

from thv_llm.cli import main

raise SystemExit(main())
