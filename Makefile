# The commands of the project; `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo paper-day test soak check clean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create the virtual environment (VENV=path, default .venv) and install everything

# The lock is a constraint file: it fixes versions without deciding between CPU and GPU builds of
# torch, whose CUDA packages the registry's own build brings along where it is that build.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--editable ".[dev]"
	@touch $(STAMP)

demo: install  ## train three agents on the embedded real data and judge them out of sample
	$(BIN)/tercet train

paper-day: install  ## a day of a paper account on this machine, from agents to filled orders, without keys
	$(BIN)/python -m benchmarks.paper_day

test: install  ## run all tests and doctests
	$(BIN)/python -m pytest

soak: install  ## break the running service for half an hour: kills, swaps, ten thousand odd requests
	$(BIN)/python -m pytest --soak -rP -p no:cacheprovider tests/serving/test_service.py \
		tests/serving/test_contract.py

check: install  ## formatting, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove the virtual environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
