# Two doors: `make demo` runs the main job, `make test` checks everything. Each works on a fresh clone.
# `make results` measures what is missing in docs/results.md; it takes hours, and goes on where it was stopped.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test results format clean

demo: .venv/.demo-installed
	$(BIN)/blemish demo --output demo

test: .venv/.test-installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile

results: .venv/.test-installed
	$(BIN)/python -m benchmarks.results

format: .venv/.test-installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv demo dist

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit('blemish needs Python 3.11 or newer; say make PYTHON=python3.11' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv

.venv/.demo-installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[train,opencv]"
	touch $@

.venv/.test-installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[train,opencv,onnx,export,hf,tensorboard,dev]"
	touch $@
