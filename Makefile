# Two commands: `make demo` shows the main job live, `make test` sets up and passes the tests.
# Everything happens in .venv, which these commands make themselves.

PYTHON  ?= python3
# The build of torch. On a GPU machine take yours: make demo TORCH="torch --index-url <the index of your CUDA version>"
TORCH   ?= torch==2.13.0
SECONDS ?= 120
# Processes that run tests side by side, 2 GB of memory each; they wait more than they compute. 0: one, in order.
TESTERS ?= 3
VENV    := .venv
BIN     := $(VENV)/bin

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Tests that need real log semantics run against Apache Kafka wherever KAFKA_HOME names a distribution.
ifneq ($(wildcard ../shared/kafka/bin/kafka-server-start.sh),)
export KAFKA_HOME ?= $(abspath ../shared/kafka)
endif

.PHONY: demo test lint audit bench bench-quality hostile soak clean bench-feed

demo: $(VENV)/.demo
	@exec $(BIN)/strata demo --seconds $(SECONDS)

# the tools come while packages are installed; tests of one file share its servers, so they stay together
test: $(VENV)/.torch
	@$(MAKE) --no-print-directory --jobs=2 $(VENV)/.tools lint
	$(BIN)/pytest --numprocesses=$(TESTERS) --dist=loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/python .ci/audit || echo "(reported here, fatal in make audit: an advisory of today does not make yesterday's code fail its tests)"

# known vulnerabilities of what is installed; skipped with the reason where no service of them answers
audit: $(VENV)/.test
	$(BIN)/python .ci/audit

bench-feed: $(VENV)/.bench
	$(BIN)/python -m ops.bench feed

bench: $(VENV)/.bench
	$(BIN)/python -m ops.bench

bench-quality: $(VENV)/.bench
	$(BIN)/python -m ops.bench.quality

# a million messages as an attacker would write them; make hostile MESSAGES=50000 for fewer
MESSAGES ?= 1000000
hostile: $(VENV)/.test
	$(BIN)/python tests/gauntlet.py $(MESSAGES)

# clicks through real workers while everything is broken at random, compared with an oracle; SECONDS=… for how long
soak: SECONDS = 600
soak: $(VENV)/.test
	$(BIN)/python tests/soak $(SECONDS) --report ops/bench/SOAK.md

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Strata needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "could not make a virtual environment: install your system's python3-venv package"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

# one stamp a set of extras; each is made anew when pyproject.toml changes
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench: $(VENV)/.%: pyproject.toml | $(VENV)/.torch
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@$(BIN)/python -c 'from models.warm import warm; warm()'
	@touch $@

# programs that some tests use and no Python package carries; without them those tests are skipped
$(VENV)/.tools: .ci/tools | $(VENV)/.torch
	@.ci/tools $(VENV)
	@touch $@
