# make run     set up and do the main job on the data that come with the package
# make test    set up and run all checks; make test-all adds the slow ones
# make bench   measure the operators, docs/benchmarks.md; make gpu-check tests and measures them on a GPU
# make bench-forecasting    the long-horizon benchmarks, docs/benchmarks-forecasting.md; needs their files, half an hour
# make check-sktime         sktime's own checks of every estimator
# Options: PYTHON=python3.12, TORCH="torch --index-url ..." for another build of torch, DEVICE flags as recipe overrides in ARGS

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# two workers with a thread each; threads that wait do not spin, because cores may be shared
CHECK_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: setup run test test-all lint bench bench-forecasting check-sktime gpu-check clean

setup: $(READY)

$(READY): pyproject.toml setup.py $(wildcard kernels/helixwave_kernels/native/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "helixwave needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $(READY)

run: $(READY)
	$(BIN)/helixwave train genomics/annotate $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(CHECK_ENV) $(BIN)/python -m pytest -n 2 -m 'not slow and not gpu'

test-all: lint
	$(CHECK_ENV) $(BIN)/python -m pytest -n 2 -m 'not gpu'

BENCH := -m helixwave_kernels.bench --lengths 1024,4096,16384,65536

bench: $(READY)
	$(BIN)/python -m pip install -q -e '.[bench]'
	$(CHECK_ENV) $(BIN)/python $(BENCH) --report docs/benchmarks.md

bench-forecasting: $(READY)
	$(CHECK_ENV) $(BIN)/python -m helixwave_domains.forecasting.ltsf_benchmark --report docs/benchmarks-forecasting.md

check-sktime: $(READY)
	$(CHECK_ENV) $(BIN)/python -m helixwave_domains.forecasting.estimators.sktime_checks

# nothing is set up: $(PYTHON) has torch, triton, numpy and pytest, and a GPU if the figures are to be had
gpu-check:
	PYTHONPATH=kernels $(PYTHON) -m pytest --confcutdir=tests/kernels -p no:cacheprovider tests/kernels/test_gpu.py
	PYTHONPATH=kernels $(PYTHON) $(BENCH) --device cuda --report docs/benchmarks-gpu.md

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
