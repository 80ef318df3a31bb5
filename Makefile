# make quickstart   train, evaluate and try a small detector on synthetic data (a few minutes, CPU)
# make test         ruff, mypy, architecture and unit tests
# make test-fast    ruff, mypy and the tests without mark `slow`: about three minutes, for the inner loop
# make docs         the documentation site, in build/site; open build/site/index.html
# make install      only the environment that both use
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the environment, JOBS=4 the number of test processes,
# TESTS=tests/ops which tests are run.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
TESTS ?= tests

# Every process gets a row of neighbouring tests, which share models and exports, and takes over from others
# when it is done.
SHARE := --dist worksteal

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install test test-fast lint docs quickstart clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

# Made again when one of these changes; otherwise `make` starts at once.
$(STAMP): setup.py pyproject.toml tools/install.py
	@$(PYTHON) tools/install.py $(VENV)
	@touch $@

install: $(STAMP)
	@echo "==> $(VENV) is up to date; activate it with: source $(BIN)/activate"

lint: $(STAMP)
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> mypy"
	@$(BIN)/mypy

test: lint
	@echo "==> pytest ($(JOBS) processes)"
	@$(BIN)/python -m pytest -n $(JOBS) $(SHARE) $(TESTS)

test-fast: lint
	@echo "==> pytest ($(JOBS) processes), without slow tests"
	@$(BIN)/python -m pytest -n $(JOBS) $(SHARE) -m "not slow" $(TESTS)

docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "==> open build/site/index.html"

quickstart: $(STAMP)
	@$(BIN)/python tools/quickstart.py

clean:
	rm -rf output build *.egg-info .mypy_cache .ruff_cache .pytest_cache
