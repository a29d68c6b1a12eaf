# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv and demo/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint wheel smoke bench clean

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/metaniche/csrc/*/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(STAMP)
	scripts/demo.sh $(BIN)

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null
	@ls dist

smoke: wheel
	$(BIN)/python scripts/smoke_wheel.py dist/*.whl

bench: $(STAMP)
	$(BIN)/python benchmarks/harness.py neighbors edge_attention ligrec label_null

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .ruff_cache
