# Two targets are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.onebasin-installed
PROTOS := $(wildcard protos/*.proto)

ROUNDS ?= 200
SEED   ?= 1

.PHONY: help setup demo test check chaos docs protos protos-check clean

help:
	@echo "make demo    set up, then run a whole campaign of four sites on this machine"
	@echo "make test    set up, then run all tests"
	@echo "make setup   a virtual environment in $(VENV) with everything in it"
	@echo "make check   linter, formatter, strict type checker, generated code"
	@echo "make chaos   disturb a real federation in ROUNDS=200 ways, and print what was survived; takes hours"
	@echo "make docs    write docs/configuration.md from the code anew"
	@echo "make protos  generate the Python code of protos/*.proto anew"
	@echo "make clean   remove $(VENV) and what tools leave behind"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"onebasin needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/onebasin demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations 25

check: setup protos-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

chaos: setup
	$(BIN)/python -m chaos --rounds $(ROUNDS) --seed $(SEED)

docs: setup
	$(BIN)/python docs/tools/configuration.py

protos: setup
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. $(PROTOS)

# The generated code is checked in; this proves that it is what the .proto files say today.
protos-check: setup
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -I . --python_out="$$fresh" --pyi_out="$$fresh" $(PROTOS) && \
	for file in $$(cd "$$fresh" && ls protos/*); do cmp "$$fresh/$$file" "$$file" || { \
	  echo "$$file is not what the .proto files say: run 'make protos' and commit it"; exit 1; }; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
