# The commands of the project; `make help` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo paper-day test cluster-test soak mutation check clean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create the virtual environment (VENV=path, default .venv) and install everything

# The lock is a constraint file: it fixes versions without deciding between CPU and GPU builds of
# torch, whose CUDA packages the registry's own build brings along where it is that build.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--editable ".[dev]"
	@touch $(STAMP)

demo: install  ## train three agents on embedded real data, judge them, then trade a paper day with them
	$(BIN)/tercet train
	$(BIN)/python -m benchmarks.paper_day artefact=runs/latest/artefact

paper-day: install  ## a day of a paper account on this machine, from agents to filled orders, without keys
	$(BIN)/python -m benchmarks.paper_day

test: install  ## run all tests and doctests
	$(BIN)/python -m pytest

cluster-test: install  ## three hosts on this machine, `ray up`, a worker lost, the head lost; as root
	@test "$$(id -u)" = 0 || { echo "cluster-test: network namespaces need root"; exit 1; }
	@which sshd rsync ip >/dev/null || apt-get install --quiet --yes openssh-server rsync iproute2
	$(BIN)/python -m pytest -m cluster -rsP tests/cluster

soak: install  ## every count in full: crashes, faults, fuzz, kills, 250 paper days; then mutation; hours
	$(BIN)/python -m pytest --soak -rP -p no:cacheprovider --timeout=7200 tests
	$(MAKE) mutation

mutation: install  ## small mistakes in the checks and the order states, against their tests
	$(BIN)/python -m benchmarks.mutation --workers 2

check: install  ## formatting, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove the virtual environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
