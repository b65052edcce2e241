# A list of verbs; the logic is in Python. The first call sets up .venv, and a change of
# pyproject.toml or constraints.txt sets it up again.
#
#   PYTHON    the interpreter that makes the virtual environment (3.11 or newer)
#   PIP_ARGS  further arguments for pip, such as the index of PyTorch's CPU build
#   RECIPE    the recipe of `make sim` and `make verilog`
#   ARGS      further arguments for the verb

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_ARGS ?=
RECIPE ?= recipes/digits.toml
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help setup sim test lint verilog bench results campaign clean

help:
	@echo "make sim [RECIPE=recipes/x.toml]   a recipe, from the float network to the verdict of the RTL"
	@echo "make test                          lint and every test"
	@echo "make verilog RECIPE=recipes/x.toml Verilog, memories and a manifest for an FPGA flow"
	@echo "make bench                         the timings of the README"
	@echo "make results                       accuracy, compression and RTL of every recipe, docs/results.md"
	@echo "make campaign                      the CIFAR-10 networks at full width; needs an accelerator"
	@echo "make lint                          ruff alone"
	@echo "make clean                         remove build/ (the virtual environment stays)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gyre needs Python 3.11 or newer, not %d.%d: name one with make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "setting up $(VENV) (a few minutes; PyTorch is the large part)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[dev]" \
	  | { grep --line-buffered -E '^(Collecting|Installing|Successfully)' || true; } | cut -c1-100
	@touch $@

sim: $(READY)
	@$(VENV)/bin/gyre run $(RECIPE) $(ARGS)

verilog: $(READY)
	@$(VENV)/bin/gyre verilog $(RECIPE) $(ARGS)

lint: $(READY)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

test: lint
	@$(RUN) -m pytest -q -n 2 --dist worksteal -m "not slow" $(ARGS)

bench: $(READY)
	@$(RUN) -m gyre.bench $(ARGS)

results: $(READY)
	@$(RUN) -m gyre.results $(ARGS)

campaign: $(READY)
	@$(RUN) -m gyre.campaign $(ARGS)

clean:
	@rm -rf build
