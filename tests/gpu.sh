#!/usr/bin/env bash
# What needs a GPU, within 8 minutes: the tests marked gpu, then ResNet-18's figures into a file.
#     [PYTHON=python3] tests/gpu.sh [FILE]        FILE is tests/benchmarks/gpu.md by default
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
# A fixed workspace lets cuBLAS give the same bits twice, which the tests of bit identity need.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 CUBLAS_WORKSPACE_CONFIG=:4096:8
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "torch sees no CUDA device")' || exit
timeout 300 "$python" -m pytest -q -m "gpu and not slow" --durations=10 tests/capture tests/rules tests/training
tests=$?
timeout 150 "$python" tests/benchmarks/bench_gpu.py --out "${1:-tests/benchmarks/gpu.md}"
bench=$?
echo "tests: exit $tests, benchmark: exit $bench"
exit $((tests ? tests : bench))
