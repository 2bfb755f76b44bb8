# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TEST_TOOLS := pytest==9.2.0 pytest-xdist==3.8.0 hypothesis==6.170.15 beartype==0.23.1 \
	import-linter==2.16 peft==0.21.2 pyyaml==6.0.3 playwright==1.65.2 axe-playwright-python==0.1.8
# What the slow tests want besides: each writes for, or is read by, one of these.
SLOW_TOOLS := lm-eval==0.4.13 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1 tensorboard==2.21.0 \
	build==1.6.1 twine==7.0.0
DOCS_TOOLS := sphinx==9.0.4 furo==2025.12.19 myst-parser==5.2.0
COVERAGE_TOOLS := pytest-cov==7.1.0
AUDIT_TOOLS := pip-audit==2.10.1
# The other end of the supported range, in an environment of its own.
OLDEST := .venv-oldest
OLDEST_PYTHON ?= python3.12
OLDEST_PACKAGES := torch==2.11.0 transformers==5.8.0 accelerate==1.10.0 safetensors==0.5.0 \
	jaxtyping==0.3.0 tyro==0.9.30 rich==13.9.4 tqdm==4.66.6 psutil==5.9.8 filelock==3.16.0
LINT_TOOLS := ruff==0.17.6 "pyright[nodejs]==1.1.414" import-linter==2.16
TRITON := "triton; platform_system == 'Linux' and platform_machine == 'x86_64'"
DEMO := runs/demo
# Two workers with one thread each: threads of one process waiting for another's cost more.
WORKERS ?= 2
# Other cases in every run; `make test` repeats the same ones.
FUZZ_CASES ?= 200000

.PHONY: help setup demo test test-slow test-oldest fuzz coverage docs audit soak smoke lint format clean

help:
	@echo "make setup   .venv with the package, the tests' tools and the checks'"
	@echo "make demo    train five mechanisms on the source of Python, about five minutes"
	@echo "make test    run the tests, then the smoke grid"
	@echo "make test-slow    those that take longer: several processes, other tools, long runs"
	@echo "make fuzz    200,000 random calls of every public function, other ones in every run"
	@echo "make coverage     the share of lines that the tests run, kernels left out"
	@echo "make test-oldest  models, operators and training on the oldest supported versions"
	@echo "make docs    build the pages into docs/_build/html; a warning is an error"
	@echo "make audit   asks for known vulnerabilities of what is installed with the package"
	@echo "make soak    trains and decodes for ten minutes each; fails if memory grows"
	@echo "make smoke   every task and mechanism of the benchmark once"
	@echo "make lint    ruff, pyright, import-linter"
	@echo "make format  rewrite the code in the house style"
	@echo "make clean   remove the virtual environment and the demo's run"

setup: $(VENV)/.test $(VENV)/.lint

demo: $(VENV)/.package
	$(BIN)/syncattn compare --output $(DEMO) --resume

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -o addopts="" tests/compile
	$(MAKE) smoke

test-slow: $(VENV)/.test
	$(PIP) install --quiet --constraint constraints.txt --editable ".[all,ray]" $(SLOW_TOOLS) \
		$(DOCS_TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m slow

fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 SYNCATTN_FUZZ_RANDOM=1 SYNCATTN_FUZZ_CASES=$(FUZZ_CASES) \
		$(BIN)/pytest -q -n $(WORKERS) tests/fuzz

coverage: $(VENV)/.test
	$(PIP) install --quiet --constraint constraints.txt $(COVERAGE_TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --cov --cov-report=term:skip-covered \
		--cov-fail-under=90

test-oldest:
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --editable ".[all]" $(OLDEST_PACKAGES) \
		$(filter-out import-linter%,$(TEST_TOOLS))
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -q -n $(WORKERS) \
		tests/models tests/functional tests/training

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -n docs docs/_build/html
	@echo "Open docs/_build/html/index.html."

# Strict: a package that the advisory service does not answer for is a failure, not a pass.
audit: $(VENV)/.package
	$(PIP) freeze --exclude-editable > $(VENV)/installed.txt
	$(PIP) install --quiet $(AUDIT_TOOLS)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement $(VENV)/installed.txt

soak: $(VENV)/.package
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

smoke: $(VENV)/.package
	rm -rf runs/benchmark/smoke
	OMP_NUM_THREADS=1 $(BIN)/syncattn benchmark run --preset smoke --workers $(WORKERS)

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(OLDEST) $(DEMO)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "syncattn needs Python 3.11 or newer; choose one with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[all]"
	@touch $@

$(VENV)/.test: $(VENV)/.package Makefile
	$(PIP) install --quiet --constraint constraints.txt $(TEST_TOOLS) $(TRITON)
	@touch $@

$(VENV)/.docs: $(VENV)/.package Makefile
	$(PIP) install --quiet --constraint constraints.txt $(DOCS_TOOLS)
	@touch $@

$(VENV)/.lint: $(VENV)/.package Makefile
	$(PIP) install --quiet --constraint constraints.txt --editable ".[all,ray]" $(LINT_TOOLS) $(TRITON)
	@touch $@
