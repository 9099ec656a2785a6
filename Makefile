# `make help` lists what can be done. Everything that is made lands in dist/ and .cache/.
PYTHON ?= python3
# With the directories, so that a module that is gone counts as a change.
SOURCES = zipapp.spec thv_llm.py $(shell find thv_llm -name '*.py' -o -name '*.md' -o -path '*/texts/*' -o -type d -not -name __pycache__)

.PHONY: help demo test e2e release-check windows check fmt bench soak fuzz faults pyz clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: pyz ## setup, token, a streamed response and teardown, in a temporary home
	@$(PYTHON) -m tests.demo dist/thv-llm.pyz

test: pyz ## unit and integration tests on every Python from 3.11 that is installed
	@$(PYTHON) tests/matrix.py

e2e: pyz ## the built file with a certified provider, a real keyring, browser and tools
	@$(PYTHON) -m tests.e2e.install && $(PYTHON) tests/matrix.py --first -n auto --dist load tests/e2e

release-check: pyz ## the newest version of every AI tool, and SDKs; TOOL=pi or clients for some, WRITE=1 to record
	@$(PYTHON) -m tests.e2e.install && $(PYTHON) -m tests.e2e.release $(if $(WRITE),--write) $(TOOL)

windows: pyz ## unit tests and the main job under CPython for Windows, with Wine
	@$(PYTHON) -m tests.windows

check: ## ruff, mypy --strict and the architecture tests; prints how large the program is
	@$(PYTHON) tests/matrix.py --check

fmt: ## format the sources
	@$(PYTHON) tests/matrix.py --format

bench: pyz ## the figures of the README; ROW=… measures one row
	@$(PYTHON) tests/matrix.py --run tests.bench $(ROW)

soak: pyz ## everything at once with faults planted in it; MINUTES=5
	@$(PYTHON) tests/matrix.py --run tests.bench soak $(MINUTES)

faults: pyz ## kills and errors at every file-changing system call (by strace); helpers by the crowd
	@$(PYTHON) tests/matrix.py --run tests.bench faults

fuzz: ## damaged input for every reader of foreign bytes; MINUTES=1 for each, TARGET=request for one
	@$(PYTHON) tests/matrix.py --run tests.bench fuzz $(or $(MINUTES),1) $(TARGET)

pyz: dist/thv-llm.pyz ## build dist/thv-llm.pyz and its checksum

dist/thv-llm.pyz: $(SOURCES)
	@$(PYTHON) zipapp.spec

clean: ## remove what was made, caches too
	@rm -rf dist build .cache .mypy_cache .ruff_cache .hypothesis
	@find thv_llm tests -name __pycache__ -prune -exec rm -rf {} +
