"""`python -m thv_llm`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from thv_llm import __version__

TOP = Path(__file__).resolve().parent.parent


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "thv_llm", "--version"], cwd=TOP, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"thv-llm {__version__}\n", "")
