# Two commands do everything: `make run` shows it working, `make test` checks everything.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(shell $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
VENV := .venv
BIN := $(VENV)/bin
export HYPOTHESIS_STORAGE_DIRECTORY := .cache/hypothesis

.PHONY: run test check bench format clean
.DEFAULT_GOAL := run

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "hub-lite needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3."; exit 1; }
	@echo "installing into $(VENV) with $(PYTHON) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: $(VENV)/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/run.sh

test: check

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(BIN)/pytest -n auto --ignore tests/sequence_sdk
	$(BIN)/pytest -n auto tests/sequence_sdk --cov --cov-report term-missing

bench: $(VENV)/.installed
	@$(BIN)/python -m bench $(ARGS)

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache .hypothesis
