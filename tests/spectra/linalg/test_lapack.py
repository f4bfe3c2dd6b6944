"""LAPACK without the interpreter's lock: the same numbers as numpy's, and threads that run beside it."""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag.spectra.linalg import lapack

SHAPES = [(1, 1), (1, 7), (7, 1), (32, 40), (33, 40), (40, 33), (90, 90), (50, 300), (300, 50)]


def ticks_within(function: Callable[[np.ndarray], object], x: np.ndarray) -> bool:
    """Tell whether this thread ran in the middle of a call on another one."""
    ends: list[float] = []

    def work() -> None:
        ends.append(time.perf_counter())
        function(x)
        ends.append(time.perf_counter())

    thread, ticks = threading.Thread(target=work), []
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
    start, end = ends
    return any(start + 0.3 * (end - start) < tick < end - 0.3 * (end - start) for tick in ticks)


def layouts(shape: tuple[int, int]) -> list[np.ndarray]:
    x = np.random.default_rng(0).standard_normal(shape)
    kept = x.copy()
    kept.flags.writeable = False
    return [x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], kept]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_vectors_are_those_of_the_dense_definition(shape: tuple[int, int]) -> None:
    for x in layouts(shape):
        before = x.copy()
        s = np.linalg.svd(x, compute_uv=False)
        assert_allclose(lapack.gram_eigenvalues(x), s[::-1] ** 2, rtol=1e-12, atol=1e-13 * s[0] ** 2)
        assert_allclose(lapack.svd_values(x), s, rtol=1e-12, atol=1e-14 * s[0])
        g = lapack.gram(x)
        for k in {1, len(g) // 2 or 1, len(g)}:
            values, vectors = lapack.gram_eigenvectors(x, k)
            assert_allclose(values, s[:k] ** 2, rtol=1e-12, atol=1e-13 * s[0] ** 2)
            assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
            assert_allclose(g @ vectors, values * vectors, atol=1e-12 * s[0] ** 2)
        assert (x == before).all()


@pytest.mark.parametrize("function", [lapack.gram_eigenvalues, lapack.svd_values])
def test_a_matrix_of_zeros_has_zeros(function: Callable[[np.ndarray], np.ndarray]) -> None:
    assert (function(np.zeros((40, 50))) == 0).all()


def test_threads_get_the_same_bits() -> None:
    x = np.random.default_rng(1).standard_normal((120, 200))
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(lapack.gram_eigenvalues(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((values == lapack.gram_eigenvalues(x)).all() for values in found)


@pytest.mark.parametrize(
    "function",
    [lapack.gram_eigenvalues, lapack.svd_values, lambda x: lapack.gram_eigenvectors(x, 5)],
    ids=["eigenvalues", "svd", "vectors"],
)
def test_python_goes_on_during_a_call(function: Callable[[np.ndarray], object]) -> None:
    """With the lock kept, no tick of this thread could fall in the middle of the other's call."""
    x = np.random.default_rng(2).standard_normal((450, 450))
    function(x)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # or a switch just before the call would leave time for ticks
    try:
        assert sum(ticks_within(function, x) for _ in range(10)) > 5
    finally:
        sys.setswitchinterval(interval)


def test_a_failure_names_the_routine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapack, "_call", lambda name, *values: values[-1].fill(3))
    with pytest.raises(np.linalg.LinAlgError, match=r"dsterf failed on a finite matrix \(info = 3\)"):
        lapack._lapack("dsterf", 1, np.ones(1), np.ones(1))
