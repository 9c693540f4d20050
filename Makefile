# Every target does its own set-up from pyproject.toml: .venv with the tested versions of constraints.txt, for the demo
# what the demo needs and for the rest everything; .venv-latest with the newest versions. With uv where it is installed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LOOPS := setup.py $(wildcard ettin_data/*/loops.[ch] ettin_data/*/*/loops.c)
EVERYTHING := all,streaming,dev
LATEST := all,dev
# Half of the tests each for two processes, in order, so that neighbours share what was built for them.
AT_ONCE := --numprocesses 2 --dist worksteal
UV := $(shell command -v uv)

# $(call install,environment,constraints,extras). torch is always held to one version, because the build without CUDA is
# found by it: pip's find-links are given to uv, which does not read them, or else uv knows where such builds are.
# Nothing is compiled ahead: most modules of what is installed are never imported. The pip of an old Python gives up on the
# newest versions after ten minutes, so it is replaced first.
ifdef UV
install = test -x $(1)/bin/python || $(UV) venv --quiet --seed --python $(PYTHON) $(1); \
	$(UV) pip install --quiet --python $(1)/bin/python --constraint $(2) --editable '.[$(3)]' \
		$(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu)
else
install = test -x $(1)/bin/python || $(PYTHON) -m venv $(1); \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip; \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint $(2) --editable '.[$(3)]'
endif

# Where this is set, as it is in many images, each process compiles all that it imports: half of what a worker takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-mmbert test test-all test-latest lint bench bench-quick clean

demo: .venv/.demo  ## Build the three phases from a local mirror of real text, into runs/demo
	$(BIN)/ettin-data demo --out runs/demo

demo-mmbert: .venv/.demo  ## mmBERT's three phases from the messages of installed programs, into runs/demo-mmbert
	$(BIN)/ettin-data demo --family mmbert --out runs/demo-mmbert

test: $(READY)  ## The default tests, under ten minutes on two cores
	$(BIN)/python -m pytest $(AT_ONCE)

test-all: $(READY)  ## All tests, the long proofs too
	$(BIN)/python -m pytest -m "slow or not slow" $(AT_ONCE)

test-latest: .venv-latest/.ready  ## The default tests with the newest versions of everything, and without streaming
	.venv-latest/bin/python -m pytest $(AT_ONCE)

bench: $(READY)  ## All benchmarks: tables and plots in build/bench, for two quiet cores
	$(BIN)/python -m benchmarks.everything

bench-quick: $(READY)  ## The benchmarks' ratios against benchmarks/baseline.json, under three minutes
	$(BIN)/python -m benchmarks.quick

lint: $(READY)  ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(READY)

.venv/.demo: pyproject.toml constraints.txt $(LOOPS)
	$(call install,.venv,constraints.txt,train)
	touch $@

$(READY): pyproject.toml constraints.txt $(LOOPS)
	$(call install,.venv,constraints.txt,$(EVERYTHING))
	touch $@ .venv/.demo

.venv-latest/.ready: pyproject.toml constraints.txt $(LOOPS)
	rm -rf .venv-latest && mkdir -p build && grep ^torch== constraints.txt >build/torch.txt
	$(call install,.venv-latest,build/torch.txt,$(LATEST))
	touch $@

clean:
	rm -rf .venv .venv-latest build runs
