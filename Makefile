# talkface: every target documents itself, `make help` prints them. The environment is .venv.

# The interpreter that makes .venv. Empty: the first of python3.12, python3.11, python3 that is 3.11 or 3.12 and can
# make an environment (Ubuntu 24.04 calls 3.12 python3, Debian 12 calls 3.11 so).
PYTHON ?=

# The package index for torch's wheel, as an extra index for that one package.
#   not set:  PyTorch's CPU index where there is no NVIDIA driver and the index answers, else none
#   empty:    none: pip's own index alone (CI)
#   an URL:   that one
# Why: PyPI's Linux wheel of torch is the CUDA build, gigabytes that a machine without a GPU cannot use
# (docs/adr/0004-two-commands-and-the-torch-index.md).
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := service,worker,embedded,client,train,eval,s3
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Most tests wait for processes and not for a core, so more of them run than there are cores; one thread each, because
# more only make small tensor operations wait for each other. Tests of one xdist_group share a process, and with it
# one browser and one service.
TEST_PROCESSES ?= 4
TEST_THREADS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: $(STAMP) ## Make .venv with everything that running, testing and training need

$(BIN)/python:
	@set -eu; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.12 python3.11 python3); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$candidate" --version) ($$candidate)"; \
	    "$$candidate" -m venv --clear $(VENV); exit 0; \
	  fi; \
	done; \
	echo "No Python 3.11 or 3.12 that can make an environment. On Debian 12 and Ubuntu 24.04: apt install python3-venv." >&2; \
	echo "Or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1

$(STAMP): pyproject.toml clients/python/pyproject.toml requirements/constraints.txt requirements/no-deps.txt requirements/dev-no-deps.txt | $(BIN)/python
	@$(PIP) install --quiet --constraint requirements/constraints.txt --upgrade pip
	@set -eu; \
	index="$(TORCH_INDEX_URL)"; \
	if [ "$(origin TORCH_INDEX_URL)" = undefined ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  if timeout 10 $(BIN)/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=8)' $(TORCH_CPU_INDEX) 2>/dev/null; \
	  then index="$(TORCH_CPU_INDEX)"; fi; \
	fi; \
	echo "installing torch$${index:+ (extra index $$index)}"; \
	$(PIP) install --quiet --no-deps --constraint requirements/constraints.txt $${index:+--extra-index-url "$$index"} torch
	@echo "installing the rest"
	@$(PIP) install --quiet --constraint requirements/constraints.txt --group dev --editable clients/python --editable '.[$(EXTRAS)]'
	@$(PIP) install --quiet --no-deps --requirement requirements/no-deps.txt --requirement requirements/dev-no-deps.txt
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Start everything on a free port, turn the example into out/demo.mp4, stop everything
	@exec $(BIN)/python examples/demo.py

.PHONY: test
test: $(STAMP) ## Run the tests (tests/gpu skip where there is no CUDA)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup -m "not long" $(PYTEST_ARGS)

.PHONY: long
long: $(STAMP) ## Run the tests that make test leaves out: the page in Chromium, README's commands, killed trainings and batches, two releases at once
	@OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup -m long

# A machine with a GPU, torch and Python 3.12 and without the rest: what it lacks is carried as wheels.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
GPU_WHEELS := .gpu-wheels
GPU_PACKAGES := diffusers soundfile cffi pycparser importlib-metadata zipp
# Half as large as its successors, whose ffmpeg has NVENC: IMAGEIO_FFMPEG_EXE names one that the machine has.
GPU_FFMPEG := imageio-ffmpeg==0.6.0
GPU_PLATFORM := --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any

.PHONY: gpu
gpu: ## Test, measure and profile on CUDA, one table (GPU_ARGS; with wheels of gpu-wheels on a bare machine)
	@set -eu; \
	if [ -d $(GPU_WHEELS) ]; then \
	  site=$$(mktemp -d); trap 'rm -rf "$$site"' EXIT; \
	  $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --target "$$site" $(GPU_WHEELS)/*.whl; \
	  export PYTHONPATH="$$site:$(CURDIR)"; \
	fi; \
	$(GPU_PYTHON) -m tests.gpu_check $(GPU_ARGS)

.PHONY: gpu-wheels
gpu-wheels: $(STAMP) ## Collect what `make gpu` needs beside torch into .gpu-wheels (Python 3.12; refused above 60 MiB)
	@rm -rf $(GPU_WHEELS)
	@$(PIP) download --quiet $(GPU_PLATFORM) --constraint requirements/constraints.txt --dest $(GPU_WHEELS) $(GPU_PACKAGES)
	@$(PIP) download --quiet $(GPU_PLATFORM) --dest $(GPU_WHEELS) $(GPU_FFMPEG)
	@size=$$(du -sm $(GPU_WHEELS) | cut -f1); echo "$(GPU_WHEELS): $$size MiB"; test "$$size" -le 60

FAKE_GPU := .fake-gpu
FAKE_GPU_TORCH ?= torch==2.11.0

.PHONY: fake-gpu
fake-gpu: $(STAMP) ## Draw with torch's fake CUDA tensors, without a GPU (once: 2.7 GB, the CUDA build into .fake-gpu)
	@set -eu; \
	if ! $(FAKE_GPU)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)' 2>/dev/null; then \
	  $(BIN)/python -m venv --clear $(FAKE_GPU); \
	  $(FAKE_GPU)/bin/python -m pip install --quiet --disable-pip-version-check "$(FAKE_GPU_TORCH)"; \
	  $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > $$($(FAKE_GPU)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/behind.pth; \
	fi
	@exec $(FAKE_GPU)/bin/python -W ignore -m tests.fake_gpu

.PHONY: corpus
corpus: $(STAMP) ## Send all broken and odd inputs to a live service (make test sends every 59th)
	@CORPUS=full OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest tests/corpus -q -s

.PHONY: batch
batch: $(STAMP) ## 50 videos by `talkface submit`, service and command killed midway (make long sends 8)
	@BATCH_ROWS=50 $(BIN)/python -m pytest tests/e2e/test_cli.py -k batch -q -s

.PHONY: chaos
chaos: $(STAMP) ## Five minutes of random kills; the last line says what was lost (docs/reliability.md)
	@exec $(BIN)/python -m tests.chaos.storm --seconds 300

.PHONY: two-hosts
two-hosts: $(STAMP) ## Two hosts that share a Redis and a bucket make a video each (Linux, root)
	@exec $(BIN)/python -m tests.two_hosts

.PHONY: chaos-rq
chaos-rq: $(STAMP) ## The same kills over RQ alone, for comparison
	@exec $(BIN)/python -m tests.chaos.plain_rq --seconds 300

.PHONY: chaos-versions
chaos-versions: $(STAMP) ## The same kills while the previous release and this tree work together
	@exec $(BIN)/python -m tests.chaos.versions --seconds 300

.PHONY: load
load: $(STAMP) ## Measure the API on loopback: uploads, status reads, event streams, memory (LOAD_ARGS)
	@$(BIN)/python benchmarks/load.py $(LOAD_ARGS)

.PHONY: slow
slow: $(STAMP) ## Ten minutes of half-open requests, streams and slow uploads; what /healthz notices (SLOW_ARGS)
	@$(BIN)/python benchmarks/slow_clients.py $(SLOW_ARGS)

.PHONY: uploads
uploads: $(STAMP) ## Measure answers to 10 min videos, and photographs beside four of them (UPLOAD_ARGS)
	@$(BIN)/python benchmarks/uploads.py $(UPLOAD_ARGS)

.PHONY: bench
bench: $(STAMP) ## Measure what a frame costs, stage by stage, and what it is compared with (docs/performance.md, BENCH_ARGS)
	@$(BIN)/python benchmarks/performance.py $(BENCH_ARGS)

.PHONY: av-sync
av-sync: $(STAMP) ## Measure how far sound and picture come apart over five minutes, container by container (AV_SYNC_ARGS)
	@$(BIN)/python benchmarks/av_sync.py $(AV_SYNC_ARGS)

.PHONY: openapi
openapi: $(STAMP) ## Write openapi.json anew, and what the Python client has of it
	@$(BIN)/python -m service.openapi > openapi.json.new && mv openapi.json.new openapi.json
	@$(BIN)/python clients/python/generate.py

.PHONY: clients
clients: $(STAMP) ## Generate clients from openapi.json (Python, TypeScript) and make a video with each
	@$(BIN)/python clients/generated/generate.py all

.PHONY: reference
reference: $(STAMP) ## Write docs/reference.md anew: settings, error codes, metrics
	@$(BIN)/python -m talkface.reference docs/reference.md

.PHONY: docs
docs: $(STAMP) ## Make the documentation a site in out/site, links checked (REPOSITORY_URL: where links to code lead)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "$(BIN)/python -m http.server --directory out/site serves it"

.PHONY: release
release: $(STAMP) ## Build the wheels of service and client into dist/; refused where versions or CHANGELOG disagree
	@test -z "$$(git status --porcelain)" || { echo "release: commit your changes first (git status)" >&2; exit 1; }
	@$(BIN)/python -m pytest -q -n 0 tests/unit/test_packaging.py
	@rm -rf dist
	@$(BIN)/python -m hatchling build --directory dist
	@cd clients/python && ../../$(BIN)/python -m hatchling build --directory ../../dist
	@ls -l dist

.PHONY: lint
lint: $(STAMP) ## ruff (lint and format), import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

.PHONY: types
types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

.PHONY: check
check: lint types test ## Everything a change has to pass

.PHONY: format
format: $(STAMP) ## Let ruff rewrite what it can
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove .venv, out/ and caches
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
