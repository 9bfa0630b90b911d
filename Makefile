# make setup   a .venv with everything pinned in it
# make demo    a fleet falls sick for a minute, before your eyes
# make stack   the same beside InfluxDB, a collector and Grafana, in containers; make stack-down stops it
# make test    all tests
# make faults  the tests that survive a fault, and docs/reliability.md made from what came of them
# make lint    style, types, direction of imports
# make bench   the benchmarks: tables and JSON in benchmarks/out
# make lock    pin anew what pyproject.toml asks for

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.immune-setup
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# the tests' byte code is kept even where the environment forbids it: compiling it anew takes a third of the quick tests' time
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo stack stack-down test test-fast faults lint format bench lock clean

help:
	@sed -n 's/^# //p' Makefile

setup: $(STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "immune needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(BIN)/python requirements.lock pyproject.toml
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/python demo.py --duration 60 --agents 15 --seed 7

stack:
	@observability/stack.sh up

stack-down:
	@observability/stack.sh down

test: setup
	$(PYTEST) -n auto --dist loadfile

test-fast: setup
	$(PYTEST) -n auto --dist loadfile --no-loadscope-reorder tests/simulation tests/unit -m 'not slow and not crash'

faults: setup
	$(PYTEST) -q -m fault --fault-results=docs/faults.json tests
	$(BIN)/python docs/make.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict immune dashboard
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --disable-pip-version-check --quiet install pip-tools
	$(VENV)-lock/bin/pip-compile --quiet --generate-hashes --extra dev --extra notify --extra parquet --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header -o requirements.lock.new pyproject.toml
	{ sed -n '/^#/p;/^[^#]/q' requirements.lock; cat requirements.lock.new; } > requirements.lock.next
	mv requirements.lock.next requirements.lock && rm requirements.lock.new

clean:
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
