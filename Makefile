# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TEST_TOOLS := pytest==9.2.0 pytest-xdist==3.8.0 hypothesis==6.170.15 beartype==0.23.1 \
	import-linter==2.16
LINT_TOOLS := ruff==0.17.6 "pyright[nodejs]==1.1.414" import-linter==2.16
TRITON := "triton; platform_system == 'Linux' and platform_machine == 'x86_64'"
DEMO := runs/demo
# Two workers with one thread each: threads of one process waiting for another's cost more.
WORKERS ?= 2

.PHONY: help demo test lint format clean

help:
	@echo "make demo    train five mechanisms on the source of Python, about five minutes"
	@echo "make test    run the tests"
	@echo "make lint    ruff, pyright, import-linter"
	@echo "make format  rewrite the code in the house style"
	@echo "make clean   remove the virtual environment and the demo's run"

demo: $(VENV)/.package
	$(BIN)/syncattn compare --output $(DEMO) --resume

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -o addopts="" tests/compile

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "syncattn needs Python 3.11 or newer; choose one with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[all]"
	@touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) install --quiet --constraint constraints.txt $(TEST_TOOLS) $(TRITON)
	@touch $@

$(VENV)/.lint: $(VENV)/.package
	$(PIP) install --quiet --constraint constraints.txt $(LINT_TOOLS) $(TRITON)
	@touch $@
