# Everything runs through .venv/bin/python -m …, with relative paths: a checkout may live in a path with spaces.

PYTHON ?=
ARGS ?=
YEARS ?= 10
CERTS ?= 1000
SEED ?= 1
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup peers demo test check bench simulate lock clean

help: ## Show this list
	@echo 'certbroker: make targets'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

setup: ## Make or update .venv (every target below does this first)
	@PYTHON='$(PYTHON)' bash .ci/setup

peers: setup ## Find or build what the tests talk to: Pebble, SoftHSM, promtool
	@$(PY) -m pebble.install

demo: setup ## See it work: a vault and its certificates, on this machine only
	@$(PY) -m pebble.install --optional pebble
	@$(PY) -m certbroker demo $(ARGS)

test: setup ## Run the tests; choose with ARGS="tests/acme -k renew"
	@$(PY) -m pebble.install --optional
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

check: setup ## Format, lint, types and import rules
	@failed=; \
	run() { echo "check: $$1"; shift; "$$@" || failed=1; }; \
	run 'format (ruff format --check)' $(PY) -m ruff format --check .; \
	run 'lint (ruff check)' $(PY) -m ruff check .; \
	run 'types (mypy --strict)' $(PY) -m mypy; \
	run 'imports (import-linter)' $(PY) -c 'from importlinter.cli import lint_imports_command as lint; lint()'; \
	if [ -n "$$failed" ]; then echo 'check: failed; the lines above say where'; exit 1; fi; \
	echo 'check: all good'

bench: setup ## Measure; see benchmarks/
	@$(PY) -m pebble.install --optional pebble
	@$(PY) -m benchmarks $(ARGS)

simulate: setup ## Ten years of a site in minutes; choose with YEARS=1 CERTS=100 SEED=2
	@$(PY) -m benchmarks.simulation --years $(YEARS) --certs $(CERTS) --seed $(SEED) $(ARGS)

lock: setup ## Write requirements.lock anew, with the newest versions pyproject.toml allows
	@$(PY) -m uv --version >/dev/null 2>&1 || command -v uv >/dev/null || $(PY) -m pip install --quiet uv
	@uv=$$(command -v uv || echo '$(PY) -m uv'); \
	$$uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
	    --no-emit-index-url --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	@echo 'lock: requirements.lock is written; `make test check` proves it'

clean: ## Remove .venv, .peers and caches
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
