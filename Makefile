# `make demo` and `make test` need nothing but Python ≥ 3.11 and make: they set up .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast docs test-pyiqa test-container conformance fuzz stress check format bench clean bundled-data race train-bundled bundle bundle-int8

help: ## List what make can do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## Run the whole job on a built-in synthetic sample (minutes)
	$(BIN)/ctsr demo

test: $(READY) ## Run the tests
	# One thread each: processes that share cores and spin for one another take many times as long.
	# A process that dies fails the run at once: xdist would wait for ever for what its replacement never gets.
	# Engines and clusters bring libraries with threads of their own: they get processes that nothing else has used.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 tests/upscale/test_cluster.py tests/evaluate/test_cluster.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --max-worker-restart 0 tests/api tests/docs tests/infer tests/quantization tests/upscale --ignore tests/upscale/test_cluster.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --max-worker-restart 0 --ignore tests/api --ignore tests/docs --ignore tests/infer --ignore tests/quantization --ignore tests/upscale --ignore tests/evaluate/test_cluster.py

test-fast: $(READY) ## Run the tests that take no more than moments and need nothing but Python (under three minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --max-worker-restart 0 -m "not slow and not browser and not cluster and not real_ct"

docs: $(READY) ## Build the documentation into build/docs; nothing in it needs a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

conformance: $(READY) ## Judge super-resolved series by every slice of CTSR_REAL_CT and of the demo set (minutes)
	OMP_NUM_THREADS=1 CTSR_ALL_SLICES=1 $(BIN)/python -m pytest --durations 5 tests/upscale/test_real_ct.py tests/upscale/test_demo.py

# PyPI's torchvision fits one release of PyPI's torch, and no CPU build from elsewhere: this pair, in place of the pins.
.venv-pyiqa/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-pyiqa
	sed '/^torch==/d; /^torchvision==/d' constraints.txt >.venv-pyiqa/constraints.txt
	.venv-pyiqa/bin/python -m pip install --quiet --constraint .venv-pyiqa/constraints.txt torch==2.14.1 torchvision==0.29.1
	.venv-pyiqa/bin/python -m pip install --quiet --constraint .venv-pyiqa/constraints.txt --editable '.[pyiqa]' hypothesis pytest pytest-timeout scikit-image
	touch $@

test-pyiqa: .venv-pyiqa/.ready ## Test LPIPS, NIQE and MA of the real pyiqa, in an environment of its own (7 GB)
	OMP_NUM_THREADS=1 .venv-pyiqa/bin/python -m pytest tests/metrics/test_adapters.py

test-container: $(READY) ## Follow the Dockerfile's steps in a bare Debian that debootstrap makes (as root; minutes)
	CTSR_CONTAINER=1 $(BIN)/python -m pytest -q tests/test_dockerfile.py

fuzz: $(READY) ## Read mutated DICOM, NIfTI and files of ours, N of each encoding (N=5000: some minutes)
	OMP_NUM_THREADS=1 CTSR_FUZZ=$(or $(N),1000) $(BIN)/python -m pytest -q -s tests/fuzz

stress: $(READY) ## Run the tests that start processes N times beside two busy loops; goes on where it was (hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.stress --runs $(or $(N),30) $(FLAGS)

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

# The bundled models: CT is a folder with the roots `patients`, `singles`, `more` and `thin`, whose images
# recipes/slices.csv lists.
CT ?= $(CTSR_REAL_CT)
BUNDLED ?= bundled
MODEL := ctsr-x2
ROOTS := $(foreach root,patients singles more thin,$(CT)/$(root))

bundled-data: $(READY) ## Resample the CT that networks are raced and measured on (CT=FOLDER)
	$(BIN)/ctsr preprocess --root $(CT)/patients --out_dir $(BUNDLED)/resampled/patients
	$(BIN)/ctsr preprocess --root $(CT)/singles --out_dir $(BUNDLED)/resampled/singles

race: bundled-data ## Race small networks against each other on equal CPU time (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.race $(CT) $(BUNDLED)

train-bundled: $(READY) ## Train a bundled model (MODEL=ctsr-x2), or go on with it where it was cut off (an hour or two)
	$(BIN)/python -m recipes.train $(MODEL) $(CT) $(BUNDLED)

bundle: $(READY) ## Put a trained model and its card into the package
	$(BIN)/python -m recipes.train $(MODEL) $(CT) $(BUNDLED) --bundle

bundle-int8: $(READY) ## Quantize a bundled model to INT8; the result goes beside the model (ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/ctsr quantize $(MODEL) --data_root $(ROOTS) --store $(BUNDLED)/store \
		--out src/ctsr/bundled/$(MODEL).int8.safetensors --overwrite

clean: ## Remove the virtual environments
	rm -rf .venv .venv-pyiqa
