# Two commands do everything on a fresh machine: `make demo` and `make test`. Both need only Python 3.11+.
PYTHON ?= $(shell for v in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$v >/dev/null 2>&1 && $$v -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$v && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet

JOBS ?= 2
MINUTES ?= 20

.PHONY: demo test soak bench dev check lint types layers build clean

demo: $(VENV)/.demo        ## a router on 127.0.0.1:8000 with a $$5 consumer; prints curl lines
	$(BIN)/hpp-router demo $(ARGS)

test: $(VENV)/.dev         ## the whole suite, real parts included
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 2 $(ARGS)

soak: $(VENV)/.dev         ## an hour and more: 2,000 random programs on every store, then load and faults on each
	HPP_PROGRAMS=2000 $(BIN)/python -m pytest -q --timeout 7200 tests/stores/test_model.py
	for store in postgres redis sqlite; do $(BIN)/python tests/soak/mix.py $$store --minutes $(MINUTES) || exit 1; done

bench: $(VENV)/.dev        ## how fast the stores are, and how much is held for what is used
	$(BIN)/python tests/benchmarks/stores.py
	$(BIN)/python tests/benchmarks/holds.py

dev: $(VENV)/.dev          ## the environment for working on the project

check: lint types layers   ## everything that CI checks but the tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

build: $(VENV)/.dev        ## wheel and sdist into dist/
	$(PIP) build && $(BIN)/python -m build

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[cli,prices,fast]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
