# `make demo` and `make test` need nothing but Python ≥ 3.11 and make: they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench clean

help: ## List what make can do
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## Run the whole job on a built-in synthetic sample (minutes)
	$(BIN)/ctsr demo

test: $(READY) ## Run the tests
	# One thread each: processes that share cores and spin for one another take many times as long.
	# Engines and clusters bring libraries with threads of their own: they get processes that nothing else has used.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/upscale/test_cluster.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope tests/infer tests/upscale --ignore tests/upscale/test_cluster.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --ignore tests/infer --ignore tests/upscale

check: $(READY) ## Format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(READY) ## Lay the code out and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Run the benchmarks, each side by side with what it replaces
	$(BIN)/python -m benchmarks

clean: ## Remove the virtual environment
	rm -rf .venv
