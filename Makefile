# Needs Python 3.11 or later and make; every target prepares .venv itself.
PYTHON ?= python3
# Where torch comes from. For a small CPU build on Linux:
#   make TORCH_PIP_ARGS="--index-url URL-OF-THE-CPU-BUILDS" test
TORCH_PIP_ARGS ?=
# More arguments for pytest: make test-core PYTEST_ARGS="-k transforms -x"
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 300

# tensorflow-cpu is half the download of tensorflow; it exists for x86-64 Linux and Windows only.
TENSORFLOW ?= $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),tensorflow-cpu,tensorflow)
TORCH := $(shell grep '^torch==' constraints.txt)
# Models that other people wrote, to try the planner on. Without their dependencies: torchvision asks for torch's CUDA
# build, keras-hub for a text library that only its tokenizers need.
PEERS := $(shell grep -E '^(torchvision|keras-hub)==' constraints.txt)

BIN := .venv/bin
STAMP := .venv/.installed
# Bytecode is kept even if the environment forbids it: the tests start hundreds of processes that import the package.
PYTEST := PYTHONDONTWRITEBYTECODE= TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -q $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo fuzz test-time test test-full test-fast test-core test-core-foundation \
	test-core-upper test-processes test-package test-torch test-torch-models test-torch-builder test-torch-validators \
	test-world test-world-and-backends test-laws test-backends test-backends-torch test-backends-jax \
	test-backends-tensorflow lint format types docs dist bench bench-full clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "keras3conv needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH_PIP_ARGS) $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TENSORFLOW) \
		--editable '.[torch,keras,jax,onnx,report,ray,docs,dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(PEERS)
	@touch $(STAMP)

demo: $(STAMP) ## convert a model and prove that nothing changed
	KERAS_BACKEND=torch $(BIN)/keras3conv demo

# Keras has one backend per process, so every group of tests has a process of its own. Two processes run at a time, the
# longest first, so that two cores are busy until the end; the output of a group appears when the group has ended.
# --keep-going: one failure hides no other. A test that crashed or hung is named in the last line.
TOGETHER := @$(MAKE) --no-print-directory --keep-going --jobs 2 --output-sync=target

test: $(STAMP) ## every group of tests, on every backend
	@rm -rf .pytest_cache/running
	$(TOGETHER) test-torch-models test-torch-builder test-torch-validators test-world-and-backends test-backends-jax \
		test-processes test-package test-backends-tensorflow test-core-foundation test-core-upper || \
		{ cat .pytest_cache/running/*.txt 2> /dev/null | sed 's/^/crashed or hung: /'; false; }

test-full: ## the same without leaving out any test
	@$(MAKE) --no-print-directory test PYTEST_ARGS="--full $(PYTEST_ARGS)"

test-fast: $(STAMP) ## the core, and on torch the first case of each test that is not slow
	$(TOGETHER) test-torch-models test-torch-builder test-torch-validators test-laws test-core-foundation test-core-upper PYTEST_ARGS="--fast $(PYTEST_ARGS)"

# Tests of the core that start processes: with limits of memory, under a guard, or killed on purpose.
PROCESSES := tests/core/formats/bad_input tests/core/formats/fuzz tests/core/writing tests/core/workflows \
	$(addprefix tests/core/formats/safe/test_,hostile_hdf5.py hdf5_child.py fuzzed_hdf5.py)

test-core: $(STAMP) ## the tests that need no framework and start no process, in seconds
	$(TOGETHER) test-core-upper test-core-foundation

# The same in two processes.
FOUNDATION := $(addprefix tests/core/,formats numerics transforms)

test-core-foundation: $(STAMP)
	$(PYTEST) $(FOUNDATION) $(PROCESSES:%=--ignore=%) -m "not slow"

test-core-upper: $(STAMP)
	$(PYTEST) tests/core $(addprefix --ignore=,$(FOUNDATION) $(PROCESSES)) -m "not slow"

test-processes: $(STAMP) ## the tests of bad files, of writing and of sweeps, which start processes, and slow ones
	$(PYTEST) $(PROCESSES)
	$(PYTEST) tests/core $(PROCESSES:%=--ignore=%) -m slow

test-package: $(STAMP) ## the tests of the distributions and of the program
	$(PYTEST) tests/package

test-torch: $(STAMP) ## the tests on torch, with Keras on the torch backend
	KERAS_BACKEND=torch $(PYTEST) tests/torch_backend

# The same in three processes.
test-torch-models: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) tests/torch_backend $(foreach one,builder validators,--ignore=tests/torch_backend/$(one))

test-torch-builder: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) tests/torch_backend/builder

test-torch-validators: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) tests/torch_backend/validators

test-world: $(STAMP) ## the files of old Kerases, beside what their software returned
	KERAS_BACKEND=torch $(PYTEST) tests/world

# Two groups on torch that import Keras once.
test-world-and-backends: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) tests/backends tests/world

test-laws: $(STAMP) ## the laws of the rules, on torch
	KERAS_BACKEND=torch $(PYTEST) tests/backends/rules tests/torch_backend/rules/test_examples.py

test-backends: test-backends-torch test-backends-jax test-backends-tensorflow ## the tests that run on every backend

test-backends-torch: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) tests/backends

test-backends-jax: $(STAMP)
	KERAS_BACKEND=jax $(PYTEST) tests/backends

test-backends-tensorflow: $(STAMP)
	KERAS_BACKEND=tensorflow $(PYTEST) tests/backends

test-time: $(STAMP) ## measure how long the tests take, and write it into the README
	$(BIN)/python -m docs.tools.time_of_tests

fuzz: $(STAMP) ## change good files at random for an hour, or FUZZ_SECONDS for each format
	$(BIN)/python -m tests.support.fuzzing all $(FUZZ_SECONDS)

lint: $(STAMP) ## check the format and the style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP) ## write the format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP) ## check the annotations
	$(BIN)/mypy

docs: $(STAMP) ## build the documentation site in build/site
	KERAS_BACKEND=torch NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m docs.tools.check build/site

dist: $(STAMP) ## build the wheel and the source distribution in dist, and check them
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

bench: $(STAMP) ## measure speed and growth, in less than ten minutes
	$(BIN)/python -m benchmarks speed --write $(BENCH_ARGS)
	$(BIN)/python -m benchmarks scaling --write

bench-full: $(STAMP) ## measure everything
	$(BIN)/python -m benchmarks speed --full --write $(BENCH_ARGS)
	$(BIN)/python -m benchmarks scaling --full --write
	KERAS_BACKEND=torch $(BIN)/python -m benchmarks fidelity --check --markdown benchmarks/FIDELITY.md

clean: ## remove what the targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist keras3conv.egg-info
