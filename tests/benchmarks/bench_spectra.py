"""Speed of fadiag.spectra against named baselines: CPU time, one BLAS thread, both sides in turn.

Run it as ``python tests/benchmarks/bench_spectra.py``. Each ratio is the median
over rounds of baseline time by own time.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy loads its BLAS

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402

from fadiag import spectra  # noqa: E402

RNG = np.random.default_rng(0)
SHAPES = ((256, 512), (512, 4608), (2048, 2048))


def compare(
    baseline: Callable[[], object], own: Callable[[], object], rounds: int
) -> tuple[float, float, float]:
    """Return the median of the ratios of CPU time, and both median times in seconds."""
    baseline(), own()
    times = []
    for _ in range(rounds):
        marks = [time.process_time()]
        for function in (baseline, own):
            function()
            marks.append(time.process_time())
        times.append(np.diff(marks))
    first, second = np.array(times).T
    return float(np.median(first / second)), float(np.median(first)), float(np.median(second))


def show(what: str, result: tuple[float, float, float], aim: str) -> None:
    ratio, first, second = result
    print(
        f"{what:66s} {ratio:7.2f}  ({1e3 * first:9.2f} ms / {1e3 * second:8.2f} ms)  to reach {aim}",
        flush=True,
    )


def svd_rank(x: np.ndarray) -> float:
    s = np.linalg.svd(x, compute_uv=False)
    q = s / s.sum()
    return float(np.exp(-(q * np.log(q)).sum()))


def ranks() -> None:
    for shape, aim in zip(SHAPES, ("3.2", "7", "3.1"), strict=True):
        x = RNG.standard_normal(shape).astype(np.float32)
        rounds = 3 if shape[0] == 2048 else 9
        name = f"{shape[0]}x{shape[1]} against numpy float32 SVD"
        show(
            f"effective_rank {name}",
            compare(lambda x=x: svd_rank(x), lambda x=x: spectra.effective_rank(x), rounds),
            aim,
        )

        def svd(x: np.ndarray = x) -> np.ndarray:
            return np.linalg.svd(x, compute_uv=False)

        show(
            f"participation_ratio {name}",
            compare(svd, lambda x=x: spectra.participation_ratio(x), rounds),
            "12",
        )
        show(f"stable_rank {name}", compare(svd, lambda x=x: spectra.stable_rank(x), rounds), "6")
        wide = x.astype(np.float64)
        other = wide.T.copy()  # a copy, so that numpy makes the whole product rather than one triangle
        product = compare(lambda a=wide, b=other: a @ b, lambda x=x: spectra.effective_rank(x), rounds)
        bound = "0.70 wide, 0.40 square"
        show(f"float64 GEMM X X^T over effective_rank {shape[0]}x{shape[1]}", product, bound)


def errors() -> None:
    print("largest relative error of effective_rank against the float64 SVD (to reach 1e-6):")
    for shape in ((96, 300), (256, 512), (131072, 32), (32768, 64), (512, 512)):
        k, found = min(shape), []
        left, right = (np.linalg.qr(RNG.standard_normal((side, k)))[0] for side in shape)
        for condition in (1e3, 1e6, 1e9):
            x = ((left * np.geomspace(1, 1 / condition, k)) @ right.T).astype(np.float32)
            truth = svd_rank(x.astype(np.float64))
            found.append(abs(float(spectra.effective_rank(x)) / truth - 1))
        print(
            f"    {shape[0]}x{shape[1]} at 1e3, 1e6, 1e9: " + ", ".join(f"{e:.1e}" for e in found), flush=True
        )


def single_errors() -> None:
    """Ranks whose large float32 Gram matrix is made in float32, against the float64 SVD."""
    print("largest relative error of participation_ratio (to reach 1e-6) and stable_rank, float32 input:")
    for shape in SHAPES[:2]:
        for name, draw in (
            ("gaussian", RNG.standard_normal),
            ("one-signed", lambda s: np.maximum(RNG.standard_normal(s), 0)),
            ("heavy-tailed", lambda s: RNG.standard_t(1.5, s)),
        ):
            x = draw(shape).astype(np.float32)
            s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
            ratio = spectra.participation_ratio(x) / spectra.participation_ratio_of_spectrum(s) - 1
            stable = spectra.stable_rank(x) / spectra.stable_rank_of_spectrum(s) - 1
            print(f"    {shape[0]}x{shape[1]} {name}: {abs(ratio):.1e}, {abs(stable):.1e}", flush=True)


def threads() -> None:
    batch = RNG.standard_normal((24, 256, 512)).astype(np.float32)
    spectra.effective_rank(batch[:2])
    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(15):
            marks = [time.perf_counter()]
            for mapping in (map, pool.map):
                list(mapping(spectra.effective_rank, batch))
                marks.append(time.perf_counter())
            one, two = np.diff(marks)
            ratios.append(one / two)
    what = "effective_rank of 24, two threads against one (wall time)"
    print(f"{what:66s} {np.median(ratios):7.2f}  to reach 1.8 on two free cores", flush=True)


def subspaces() -> None:
    x = RNG.standard_normal((512, 1024)).astype(np.float32)
    full = compare(lambda: np.linalg.svd(x, full_matrices=False), lambda: spectra.right_basis(x, 9), 5)
    show("right_basis of 9 directions 512x1024 against numpy float32 SVD", full, "-")
    for dtype, aim in ((np.float64, "25"), (np.float32, "60")):
        u, v = (spectra.right_basis(RNG.standard_normal((300, 9, 256)), 9).astype(dtype) for _ in range(2))

        def loop(u: np.ndarray = u, v: np.ndarray = v) -> list[np.ndarray]:
            return [scipy.linalg.subspace_angles(a, b) for a, b in zip(u, v, strict=True)]

        name = f"of 300 pairs 256x9 {dtype.__name__} against scipy"
        show(
            f"overlap_of_bases {name}", compare(loop, lambda u=u, v=v: spectra.overlap_of_bases(u, v), 5), aim
        )
        angles = compare(loop, lambda u=u, v=v: spectra.principal_angles_of_bases(u, v), 5)
        show(f"principal_angles_of_bases {name}", angles, aim)


def cosines() -> None:
    x, y = RNG.standard_normal((2, 4096, 4096)).astype(np.float32)
    out = np.empty_like(x)

    def copies() -> None:
        np.copyto(out, x)

    # A copy moves two arrays' worth of bytes, as reading x and y does: equal bandwidth is equal time.
    show(
        "cosine of 4096 rows of 4096: share of a copy's bandwidth",
        compare(copies, lambda: spectra.cosine(x, y), 9),
        "0.8",
    )

    def naive() -> np.ndarray:
        a, b = x.astype(np.float64), y.astype(np.float64)
        return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))

    show(
        "cosine of 4096 rows of 4096 against naive numpy float64",
        compare(naive, lambda: spectra.cosine(x, y), 5),
        "-",
    )


def null() -> None:
    x, y = RNG.standard_normal((2, 512, 512)).astype(np.float32)
    kept = RNG.standard_normal(99)
    seen = spectra.cosine(x, y).mean()
    alone = compare(
        lambda: [spectra.p_value(seen, kept) for _ in range(50)],
        lambda: [spectra.cosine(x, y) for _ in range(50)],
        5,
    )
    show("p_value of 99 kept draws, in units of the cosine itself", alone, "under 1")


if __name__ == "__main__":
    for part in (errors, single_errors, ranks, threads, subspaces, cosines, null):
        part()
