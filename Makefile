# Every target does its own set-up: a virtual environment in .venv from pyproject.toml and the tested versions.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test test-all lint bench bench-quick clean

demo: $(READY)  ## Build the three phases from a local mirror of real text, into runs/demo
	$(BIN)/ettin-data demo --out runs/demo

test: $(READY)  ## The default tests, under ten minutes on two cores
	$(BIN)/python -m pytest

test-all: $(READY)  ## All tests, the long proofs too
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(READY)  ## All benchmarks: tables and plots in build/bench, for two quiet cores
	$(BIN)/python -m benchmarks.everything

bench-quick: $(READY)  ## The benchmarks' ratios against benchmarks/baseline.json, under three minutes
	$(BIN)/python -m benchmarks.quick

lint: $(READY)  ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY)

# torch goes first and alone: with it in place, nothing else asks for the build with CUDA libraries.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build runs
