# Two commands do everything: `make demo` and `make test`. Both install into .venv first; so does `make install`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt
ONCE   ?=
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo check test lint bench fuzz chaos fmt clean

help: ## Show what can be made
	@sed -nE 's/^([a-z]+):.*## /\1|/p; s/^## /|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-9s %s\n", $$1, $$2 }'

demo: $(VENV)/.runs ## Run the engine with stand-ins for LangSmith and Slack
## ONCE=1: exit when done
	@$(BIN)/engine demo $(if $(filter-out 0,$(ONCE)),--once)

install: $(VENV)/.runs ## Install the engine command into .venv
	@echo "Installed. To have the engine command in a terminal: . $(BIN)/activate"

QUICK_TESTS := tests/core tests/action tests/actions tests/config tests/rules/conditions tests/rules/templates \
  tests/rules/lint tests/receiver tests/admin tests/telemetry
check: lint ## Lint, check types and imports, run the quick tests
	$(BIN)/pytest -q -n $(JOBS) -m "not slow" $(QUICK_TESTS)

test: lint ## Lint, check types and imports, run every test
	$(BIN)/pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.develops ## Lint, check types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

QUICK   ?=
AGAINST ?=
JSON    ?=
bench: $(VENV)/.benches ## Measure beside other servers
## QUICK=1, AGAINST=another checkout, JSON=file
	$(BIN)/python -m bench $(if $(filter-out 0,$(QUICK)),--quick) $(if $(AGAINST),--against '$(AGAINST)') \
	  $(if $(JSON),--json '$(JSON)')

chaos: $(VENV)/.develops ## Break everything around the engine and check the promises
## CHAOS_KILLS=50, CHAOS_SEED=…
	$(BIN)/python -m chaos

SECONDS ?= 300
fuzz: $(VENV)/.develops ## Look for inputs that break it, for SECONDS, where atheris installs
	@$(PIP) atheris || echo "atheris does not install here"
	$(BIN)/python tests/fuzz/harness.py $(SECONDS)

fmt: $(VENV)/.develops ## Format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## Remove what was installed and built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV) …"
	$(PIP) --editable .
	@touch $@

$(VENV)/.develops: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV), with what tests need …"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.runs

$(VENV)/.benches: $(VENV)/.develops
	@$(PIP) --editable '.[bench]' || echo "FastAPI and uvicorn do not install here: they are left out"
	@touch $@
