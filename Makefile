# `make demo` and `make test` each work alone on a machine with Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
# One BLAS thread a process: the tests and the demo run their own workers.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# `make test` writes a hundred thousand small files: in memory, where there is plenty.
SPARE_KB := $(shell df --output=avail /dev/shm 2>/dev/null | tail -1)
TEST_FOLDER := $(shell test "$(SPARE_KB)" -gt 8000000 2>/dev/null && echo /dev/shm)

.PHONY: demo test test-slow lint bench gpu docs clean

demo: .venv/demo
	$(BIN)/fadiag demo --out fadiag-demo

test: .venv/dev lint
	PYTEST_DEBUG_TEMPROOT=$(TEST_FOLDER) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

gpu: .venv/dev
	tests/gpu.sh

docs: .venv/docs
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf .venv build dist docs/_build fadiag-demo

# A stamp a set of packages: installed again when the project's metadata or a pin changes.
.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("fadiag needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Without its dependencies: it asks for torchvision and jupyter, and its layers need neither.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps biotorch
	touch $@ .venv/demo

.venv/docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
