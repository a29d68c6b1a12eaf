# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv and demo/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test kernels sanitize pack gpu lint wheel smoke bench clean

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/metaniche/csrc/*/*.*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# The NVRTC of torch's wheels of CUDA 13.0 and 12.8, which who has such a torch compiles with: the gate tries them too.
OLD_NVRTC := build/nvrtc-13.0/.installed build/nvrtc-12.8/.installed
build/nvrtc-13.0/.installed: NVRTC = nvidia-cuda-nvrtc==13.0.88
build/nvrtc-12.8/.installed: NVRTC = nvidia-cuda-nvrtc-cu12==12.8.93
$(OLD_NVRTC): | $(STAMP)
	$(PIP) install --quiet --no-deps --upgrade --target $(@D) $(NVRTC)
	@touch $@

demo: $(STAMP)
	scripts/demo.sh $(BIN)

test: $(STAMP) $(OLD_NVRTC)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The CUDA kernels without a GPU: compiled for every architecture, run on the host, every mutant tried.
kernels: $(STAMP) $(OLD_NVRTC)
	METANICHE_ALL_MUTANTS=1 $(BIN)/python -m pytest tests/simt tests/ops/cuda

# The native CPU backend under the address and undefined-behaviour sanitizers (minutes to build).
sanitize: $(STAMP)
	$(BIN)/python scripts/sanitize_cpu.py

pack: $(STAMP)
	$(BIN)/python scripts/build_cubins.py

# On a machine with a GPU, with the Python that holds its torch: make gpu GPU_PYTHON=python3 GPU_OUT=gpu_results.md
# Builds the native CPU code that the kernels are compared with, where it can.
GPU_PYTHON ?= $(BIN)/python
GPU_OUT ?= docs/gpu_results.md
gpu:
	rm -rf build/gpu
	-$(GPU_PYTHON) -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --upgrade --target build/gpu .
	PYTHONPATH=build/gpu:src:$$PYTHONPATH $(GPU_PYTHON) scripts/gpu_check.py --out $(GPU_OUT)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: pack
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	@ls dist

smoke: wheel
	$(BIN)/python scripts/smoke_wheel.py dist/*.whl

# The ops beside their peers, which live in a venv of their own; what was measured goes into docs/benchmarks.md.
# BENCH="neighbors --rounds 3": only these files or cases.
PEERS := .venv-peers
BENCH ?=
$(PEERS)/.installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/metaniche/csrc/*/*.*)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python benchmarks/install_peers.py
	@touch $@

bench: $(PEERS)/.installed
	$(PEERS)/bin/python benchmarks/harness.py $(BENCH)
	$(PEERS)/bin/python benchmarks/table.py

clean:
	rm -rf $(VENV) $(PEERS) build dist demo .pytest_cache .ruff_cache
