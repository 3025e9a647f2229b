PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup run test check fix proto lock bench
help:    ## show these targets
	@grep -hE '^[a-z]+: .*##|^[a-z]+: +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

$(VENV)/.stamp: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

setup: $(VENV)/.stamp  ## make .venv with everything, from hashes

run: setup   ## three regions on this machine, with a demo page; Ctrl-C ends it
	$(BIN)/thalweg up

test: setup  ## every test; needs what tests/setup.sh can install
	sh tests/setup.sh
	$(BIN)/python -m pytest

check: setup ## format, lint, types, import contracts, proto rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	sh proto/breaking.sh $(BIN)/buf

fix: setup   ## let the tools mend what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w

proto: setup ## regenerate the code under proto/
	sh proto/generate.sh $(BIN)/python proto

lock: setup  ## resolve requirements.lock again
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --all-extras --group dev pyproject.toml -o requirements.lock

bench: setup ## measure; prints ratios against a peer in the same run
	$(BIN)/python -m tests.bench
