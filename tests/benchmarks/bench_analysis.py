"""Analysing a store: memory against the store's size, time against a numpy SVD loop, the share of reading.

    python tests/benchmarks/bench_analysis.py [GB ...]

Stores of 512 x 1024 float32 errors are written to a temporary folder. Peak memory is that of a process of its
own, above what its imports took; times are CPU seconds with one BLAS thread.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fadiag.analysis.blas import one_blas_thread

ROWS, COLUMNS = 512, 1024
SLAB = ROWS * COLUMNS * 4

CHILD = """
import sys, time
from pathlib import Path
from fadiag.analysis import analyze
from fadiag.store import open_run
import zarr, scipy.linalg
# VmHWM, not ru_maxrss: the latter starts at what the parent had.
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
before, start = peak(), time.process_time()
analyze(Path(sys.argv[1]), metrics=sys.argv[2].split(",") if sys.argv[2] else None)
print(peak() - before, time.process_time() - start)
"""


def write(path: Path, gigabytes: float) -> int:
    from fadiag.store import ArraySpec, RunWriter

    steps = max(1, round(gigabytes * 2**30 / SLAB))
    rng = np.random.default_rng(0)
    base = rng.standard_normal((ROWS, COLUMNS), np.float32)
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe", "samples": ROWS}, planned=steps)
        spec = ArraySpec(("sample", "out"), (ROWS, COLUMNS), "float32")
        writer.declare("probe", "fc", "error", spec, layer_attrs={"out_features": COLUMNS})
        for step in range(steps):
            writer.append("probe", step, {("fc", "error"): base * np.float32(1 + step)})
    return steps


def child(path: Path, metrics: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), metrics], capture_output=True, text=True, check=True
    )
    memory, seconds = map(float, done.stdout.split())
    return memory, seconds


def reading(path: Path) -> float:
    from fadiag.store import open_run

    error = open_run(path)["probe/fc/error"]
    start = time.process_time()
    for step in range(0, error.sizes["step"], 2):
        _ = error.isel(step=slice(step, step + 2)).values
    return time.process_time() - start


def svd_loop(path: Path, steps: int) -> float:
    """Return the baseline's CPU seconds, from a few steps scaled to all of them."""
    from fadiag.store import open_run

    error = open_run(path)["probe/fc/error"]
    few = min(steps, 6)
    start = time.process_time()
    for step in range(few):
        s = np.linalg.svd(error[step].values, compute_uv=False)
        q = s / s.sum()
        np.exp(-(q * np.log(q)).sum())
    return (time.process_time() - start) * steps / few


def main() -> None:
    sizes = [float(word) for word in sys.argv[1:]] or [0.25, 1.0]
    with tempfile.TemporaryDirectory() as folder, one_blas_thread():
        for size in sizes:
            path = Path(folder) / f"{size}.zarr"
            steps = write(path, size)
            read, loop = reading(path), svd_loop(path, steps)
            memory, seconds = child(path, "error_effective_rank_raw")
            print(
                f"{size:g} GB, {steps} matrices, effective rank: {memory:.0f} MB above the imports, "
                f"{1000 * seconds / steps:.1f} ms each, {loop / seconds:.2f} times the SVD loop, "
                f"reading {100 * read / seconds:.0f} % of the CPU"
            )
            memory, seconds = child(path, "")
            print(
                f"{size:g} GB, {steps} matrices, whole table: {memory:.0f} MB above the imports, "
                f"{1000 * seconds / steps:.1f} ms each"
            )


if __name__ == "__main__":
    main()
