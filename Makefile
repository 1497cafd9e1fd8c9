# make demo   bare machine → .venv, install, the demo collection through the whole asset graph
# make test   bare machine → .venv, install, lint, types, tests
# make ui     Dagster on the same data, http://127.0.0.1:3000
# Each step leaves a stamp in .make/ and runs again only when what it depends on changed.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test ui lint types unit format install install-dev clean
.DEFAULT_GOAL := demo

demo: $(STAMPS)/pipeline
	@$(BIN)/sceneloom make --config configs/demo.yaml

test: $(STAMPS)/dev lint types unit

ui: $(STAMPS)/pipeline
	@$(BIN)/dagster dev -w workspace.yaml

install: $(STAMPS)/pipeline

install-dev: $(STAMPS)/dev

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/dev
	$(BIN)/pyright

# A thread in each of pytest's workers: more of them spin for each other's cores, which takes three times as long.
unit: $(STAMPS)/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

format: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(STAMPS) build *.egg-info

$(STAMPS)/venv:
	@echo "sceneloom: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12), (3, 13)})' \
		|| { echo "sceneloom needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# torch comes first and alone: a machine with a CPU build of it then does not fetch the CUDA one.
$(STAMPS)/pipeline: pyproject.toml $(STAMPS)/venv
	@echo "sceneloom: installing (a few minutes the first time)"
	@$(PIP) install 'torch==2.13.*'
	@$(PIP) install -e '.[pipeline]'
	@touch $@

$(STAMPS)/dev: $(STAMPS)/pipeline
	@echo "sceneloom: installing what the tests need"
	@$(PIP) install -e '.[pipeline,postgres,s3,kubernetes,dev]'
	@touch $@
