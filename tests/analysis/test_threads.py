"""Workers measure with one BLAS thread, and the caller's setting comes back."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

from fadiag.analysis import Metric, View, analyze
from fadiag.analysis.threads import one_blas_thread


def counts() -> set[int]:
    """Return the number of threads of each BLAS that is loaded."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        assert counts() == {2}, "threadpoolctl finds no BLAS: numpy's or scipy's build has changed"
        yield


def test_the_number_of_threads_comes_back() -> None:
    with one_blas_thread():
        assert counts() == {1}
    assert counts() == {2}


def test_a_worker_is_limited_from_the_call_on() -> None:
    one_blas_thread()
    assert counts() == {1}


def _threads(view: View) -> np.ndarray:
    return np.full(len(view.steps), float(max(counts())))


THREADS = Metric("threads", ("probe",), ("error",), _threads, "BLAS threads", "n", "this test")


@pytest.mark.parametrize(
    "pool",
    [
        None,
        lambda: ThreadPoolExecutor(2),
        lambda: ProcessPoolExecutor(1, get_context("spawn"), initializer=threadpool_limits, initargs=(2,)),
    ],
    ids=["default", "threads", "process"],
)
def test_every_executor_measures_with_one_thread(
    pool: Callable[[], Executor] | None, make_run: Callable[..., xr.DataTree]
) -> None:
    executor = None if pool is None else pool()
    results = analyze(make_run(), metrics=[THREADS], executor=executor)
    if executor is not None:
        executor.shutdown()
    assert (results["probe/threads"] == 1).all()
    assert counts() == {2}
