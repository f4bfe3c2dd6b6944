"""Processes for runs side by side, each with one thread for its numerical libraries."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any

import torch

__all__ = ["run_each", "worker_pool"]

#: What the numerical libraries read when a process loads them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of spawned processes with one thread each: results do not depend on ``jobs``.

    Leaving with an error drops what has not begun. While the pool is open, this process's environment asks
    for one thread too: processes read it when they start.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_each(
    pool: ProcessPoolExecutor, jobs: int, function: Callable[..., Any], calls: Mapping[str, tuple[Any, ...]]
) -> Iterator[str]:
    """Call a function in the pool, ``jobs`` at a time, and yield each call's name when it has ended.

    The error of a call is raised, and after it, or once the caller goes away, nothing more is begun: the pool
    is given no more than it works on, since what it has handed to its processes cannot be taken back.
    """
    waiting = iter(calls.items())
    running: dict[Future[Any], str] = {}
    while True:
        for name, arguments in islice(waiting, jobs - len(running)):
            running[pool.submit(function, *arguments)] = name
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            future.result()
            yield name
