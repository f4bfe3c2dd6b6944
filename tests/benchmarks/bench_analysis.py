"""Analyzing a store: memory against the store's size, time against a numpy SVD loop, the share of reading,
two threads against one, a drawn null against its metric, and the command on a small store.

    python tests/benchmarks/bench_analysis.py [GB ...]

Stores of 512 x 1024 float32 errors are written to a temporary folder. Peak memory is that of a process of its
own, above what its imports took; times are CPU seconds with one BLAS thread.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fadiag.analysis.threads import one_blas_thread

ROW_COUNT_SIGNAL, COLUMNS = 512, 1024
SLAB = ROW_COUNT_SIGNAL * COLUMNS * 4
#: Of the small store.
RECORDS = 40

CHILD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fadiag.analysis import analyze
from fadiag.store import open_run
import zarr, scipy.linalg
# VmHWM, not ru_maxrss: the latter starts at what the parent had.
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
before, start, wall = peak(), time.process_time(), time.perf_counter()
with ThreadPoolExecutor(int(sys.argv[3])) as executor:
    analyze(Path(sys.argv[1]), metrics=sys.argv[2].split(",") if sys.argv[2] else None, executor=executor)
print(peak() - before, time.process_time() - start, time.perf_counter() - wall)
"""


def write(path: Path, gigabytes: float) -> int:
    from fadiag.store import ArraySpec, RunWriter

    steps = max(1, round(gigabytes * 2**30 / SLAB))
    rng = np.random.default_rng(0)
    base = rng.standard_normal((ROW_COUNT_SIGNAL, COLUMNS), np.float32)
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe", "samples": ROW_COUNT_SIGNAL}, planned=steps)
        spec = ArraySpec(("sample", "out"), (ROW_COUNT_SIGNAL, COLUMNS), "float32")
        writer.declare("probe", "fc", "error", spec, layer_attrs={"out_features": COLUMNS})
        for step in range(steps):
            writer.append("probe", step, {("fc", "error"): base * np.float32(1 + step)})
    return steps


def child(path: Path, metrics: str, threads: int = 2) -> tuple[float, float, float]:
    """Return MB above the imports, CPU seconds and wall seconds."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), metrics, str(threads)],
        capture_output=True,
        text=True,
        check=True,
    )
    memory, cpu, wall = map(float, done.stdout.split())
    return memory, cpu, wall


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
            memory, seconds, wall = child(path, "error_effective_rank_raw")
            print(
                f"{size:g} GB, {steps} matrices, effective rank: {memory:.0f} MB above the imports, "
                f"{1000 * seconds / steps:.1f} ms each, {loop / seconds:.2f} times the SVD loop, "
                f"reading {100 * read / seconds:.0f} % of the CPU"
            )
            alone = child(path, "error_effective_rank_raw", threads=1)[2]
            print(f"two threads: {alone / wall:.2f} times as fast as one (wall time)")
            memory, seconds, _ = child(path, "")
            print(
                f"{size:g} GB, {steps} matrices, whole table: {memory:.0f} MB above the imports, "
                f"{1000 * seconds / steps:.1f} ms each"
            )
        with_null, without = (child(pair(Path(folder), draws), "error_cosine")[1] for draws in (99, 0))
        print(f"error_cosine with the null of 99 draws: {with_null / without:.2f} times the metric's CPU")
        command(Path(folder))


def pair(folder: Path, draws: int) -> Path:
    """Write records of an error, its true one, and the statistics of as many draws as asked for."""
    from fadiag.store import ArraySpec, RunWriter

    path, rng = folder / f"draws{draws}.zarr", np.random.default_rng(0)
    x, y = (rng.standard_normal((128, 512), np.float32) for _ in range(2))
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"}, planned=RECORDS)
        for signal in ("error", "error_bp"):
            writer.declare("probe", "fc", signal, ArraySpec(("sample", "out"), x.shape, "float32"))
        if draws:
            writer.declare(
                "probe",
                "fc",
                "error_null_cosine",
                ArraySpec(("draw",), (draws,), "float32", {"samples": 128}),
            )
        for step in range(RECORDS):
            values = {("fc", "error"): x.copy(), ("fc", "error_bp"): y.copy()}
            if draws:
                values["fc", "error_null_cosine"] = rng.standard_normal(draws).astype(np.float32)
            writer.append("probe", step, values)
    return path


def command(folder: Path) -> None:
    """Time ``fadiag analyze`` on a small store, without and with compiled kernels in numba's cache."""
    cache = folder / "numba"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    for state in ("cold", "warm"):
        words = ["analyze", folder / "draws99.zarr", "-o", folder / f"{state}.zarr"]
        before, start = os.times(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fadiag", *map(str, words)],
            env=environment,
            check=True,
            capture_output=True,
        )
        wall, after = time.perf_counter() - start, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        kernels = ", ".join(sorted({p.name.partition("-")[0] for p in cache.rglob("*.nbi")})) or "none"
        print(f"fadiag analyze, {state}: {cpu:.1f} s CPU, {wall:.1f} s wall; kernels {kernels}")


if __name__ == "__main__":
    main()
