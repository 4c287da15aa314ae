# Two commands: `make run` and `make test`. Both set up what they need in .venv, from hashed pins.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first interpreter that is new enough; PYTHON=/path overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is slow is shown, package by package; what is not is quiet.
INSTALL := $(PIP) install --require-hashes

.PHONY: help run test soak chaos chaos-archive coverage lint scan bench contract dashboards requirements clean

help: ## Show the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.run ## Start the whole cluster here, hold one spoken conversation, then serve until Ctrl-C.
	@exec $(BIN)/voicebus dev --demo

test: $(VENV)/.dev ## Run all tests, with real Redis and PostgreSQL servers.
	$(BIN)/python -m pytest -n $${PYTEST_WORKERS:-auto} --dist loadgroup $(ARGS)

soak: $(VENV)/.dev ## Hold ten thousand random conversations of each kind with the engine; hear the model in all four modes; let sockets of 10 s expire; fuzz the gateway.
	VOICEBUS_HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/engine/test_session_properties.py $(ARGS)
	VOICEBUS_MODES=all $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-auto} tests/parity tests/test_openai_agents.py \
		tests/agents/test_session.py tests/agents/models $(ARGS)
	VOICEBUS_SOCKET_LIFETIME=10 $(BIN)/python -m pytest tests/parity/test_lost_links.py -k expire --timeout 1200 $(ARGS)
	VOICEBUS_FUZZ_FRAMES=10000 $(BIN)/python -m pytest tests/services/gateway/test_fuzz.py $(ARGS)
	VOICEBUS_SCHEMATHESIS_EXAMPLES=50 VOICEBUS_SCHEMATHESIS_PHASES=examples,coverage,fuzzing,stateful \
		$(BIN)/python -m pytest tests/services/test_openapi.py $(ARGS)

coverage: $(VENV)/.dev ## Measure the branches that tests take, of the engine (at least 98 %) and of what authors import (95 %).
	@mkdir -p .cache/coverage && rm -f .cache/coverage/*
	$(BIN)/python -m pytest -n $${PYTEST_WORKERS:-auto} --dist loadgroup --cov --cov-report= --timeout 300 $(ARGS) \
		tests/engine tests/agents tests/testing tests/parity tests/runtime
	$(BIN)/coverage report --include='*/voicebus/engine/*' --fail-under=98
	$(BIN)/coverage report --include='*/voicebus/agents/*,*/voicebus/testing/*' --fail-under=95

lint: $(VENV)/.dev ## Check style, types, layers and spelling.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(VENV)/.dev ## Measure footprint, session layer, queue, guardrails, archiver, capacity, search and autoscaling beside peers or bounds.
	PYTHONPATH=tests $(BIN)/python -m benchmarks.footprint
	PYTHONPATH=tests $(BIN)/python -m benchmarks.session_layer
	PYTHONPATH=tests $(BIN)/python -m benchmarks.queue
	PYTHONPATH=tests $(BIN)/python -m benchmarks.judging
	PYTHONPATH=tests $(BIN)/python -m benchmarks.archiver
	PYTHONPATH=tests $(BIN)/python -m benchmarks.capacity
	PYTHONPATH=tests $(BIN)/python -m benchmarks.search
	PYTHONPATH=tests $(BIN)/python -m benchmarks.scaling
	PYTHONPATH=tests $(BIN)/python -m benchmarks.sizing

scan: $(VENV)/.dev ## Judge what the chart renders by a policy scanner, and the Dockerfile by a linter; write the image's bill of materials (.cache/scan).
	PYTHONPATH=tests $(BIN)/python -m deploy.scan

chaos: $(VENV)/.dev ## Send ten thousand tool calls through workers that are killed and frozen every second, on each kind of Redis; time a worker's death.
	PYTHONPATH=tests $(BIN)/python -m chaos.tool_calls $(ARGS)
	PYTHONPATH=tests $(BIN)/python -m chaos.worker_deaths

chaos-archive: $(VENV)/.dev ## Hold two hundred calls while gateways, archivers, PostgreSQL and Redis are killed, and compare the archive.
	PYTHONPATH=tests $(BIN)/python -m chaos.transcripts $(ARGS)

contract: $(VENV)/.dev ## Write the stream contract's AsyncAPI document and scripts into docs/contract.
	$(BIN)/voicebus contract write docs/contract

dashboards: $(VENV)/.dev ## Write Grafana's dashboards into deploy/grafana.
	PYTHONPATH=deploy $(BIN)/python -m dashboards

requirements: $(VENV)/.dev ## Pin again what pyproject.toml asks for (needs uv).
	$(BIN)/python deploy/pin_requirements.py

clean: ## Remove what the other commands made.
	rm -rf $(VENV) .cache .voicebus .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "voicebus: setup: no Python 3.11 or later was found; install python3, or give PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "voicebus: setup: $(PYTHON) has no venv module; install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python requirements/run.txt requirements/build.txt pyproject.toml
	@echo "A hundred packages, 350 MB to download once: a minute or a few."
	@echo "Installing voicebus with voicebus[speech]: the offline ears and voice of the model-simulator, which hold GPL parts (see NOTICE)."
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(INSTALL) --quiet -r requirements/build.txt
	$(INSTALL) -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(INSTALL) -r requirements/dev.txt
	@touch $@
