# The commands of this repository; `make help` lists them. Everything runs in .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ROOT ?= runs/demo
OPS := $(VENV)/.ops
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.cache/torch_extensions
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo report test test-fast soak lint clean

help:  ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.txt pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "set-up: installing the pinned packages into $(VENV) (about a minute and 1.6 GB) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(OPS): $(STAMP)
	@$(PY) -m launch.build_ops
	@touch $@

setup: $(OPS)  ## make .venv, install requirements.txt, compile DeepSpeed's communication op

demo: setup  ## the whole pipeline in miniature: SFT, reward model, PPO, evaluation, report (about 10 minutes, 2 cores)
	@$(PY) -m launch.demo --overwrite

report: setup  ## the page that shows a finished run: make report ROOT=runs/demo
	@$(PY) -m evaluation report --root $(ROOT)

test: test-fast  ## every test, fast ones first (about 19 minutes on 2 cores)
	@$(PY) -m pytest -q -n 2 --dist loadfile -m e2e

test-fast: setup  ## all tests but the end-to-end ones
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "not e2e"

soak: setup  ## kill every stage at 60 moments, on two ranks at 15, and compare what it leaves (about two hours)
	@$(PY) -m pytest -q tests/faults --kills 60

lint: setup  ## ruff, mypy and the import rules
	@$(PY) -m ruff check --no-cache .
	@$(PY) -m ruff format --no-cache --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

clean:  ## remove the environment, compiled ops and caches; keeps ckpts/, runs/ and metadata/
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
