"""Run calls in parallel processes, each with one thread for its numerical libraries."""

import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import torch

from fadiag.errors import FadiagError

__all__ = ["Pool", "run_each", "worker_pool"]

#: Environment variables that the numerical libraries read when a process loads them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

#: The processes, each under the parent's end of its pipe.
Pool: TypeAlias = Mapping[Any, BaseProcess]


@contextmanager
def worker_pool(jobs: int) -> Iterator[Pool]:
    """Open a pool of spawned processes with one thread each: results do not depend on ``jobs``.

    After an error, the pool waits for the calls that have begun. After an interrupt it kills their processes,
    because Ctrl-C reaches only this process. The pool uses no threads or locks, so a second Ctrl-C is safe.
    """
    context = get_context("spawn")
    pool: dict[Any, BaseProcess] = {}
    try:
        with _one_thread(), _interrupts_blocked():
            for _ in range(jobs):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                pool[ours] = process
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            for worker in pool.values():
                worker.kill()
        raise
    finally:
        for pipe, worker in pool.items():
            pipe.close()  # the worker ends after its call
            worker.join()


def run_each(
    pool: Pool, function: Callable[..., Any], calls: Mapping[str, tuple[Any, ...]]
) -> Iterator[tuple[str, Any]]:
    """Call a function in the pool, and yield each call's name and result when it has ended.

    A process gets its next call when its previous one has ended. An error in a call is raised here. After an
    error, or if the caller stops iterating, no further call begins.

    Raises
    ------
    FadiagError
        A process ended before its call did.
    """
    waiting = iter(calls.items())
    idle, running = list(pool), dict[Any, str]()
    while True:
        for name, arguments in islice(waiting, len(idle)):
            pipe = idle.pop()
            running[pipe] = name
            with _explained(name, pool[pipe]):
                pipe.send((function, arguments))
        if not running:
            return
        ready: list[Any] = connection.wait(list(running))
        for pipe in ready:
            name = running.pop(pipe)
            with _explained(name, pool[pipe]):
                result, error = pipe.recv()
            if error is not None:
                raise error
            idle.append(pipe)
            yield name, result


def _serve(pipe: "Connection[Any, Any]") -> None:
    """Run the calls that come through the pipe until its other end is closed; the worker's main loop."""
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):
        while True:
            function, arguments = pipe.recv()
            pipe.send(_answer(function, arguments))


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())  # a traceback does not cross to another process
        return None, error


@contextmanager
def _explained(name: str, process: BaseProcess) -> Iterator[None]:
    """Raise an error that names the call if the process at the other end of the pipe has ended."""
    try:
        yield
    except (EOFError, ConnectionError):
        process.join()
        code = process.exitcode or 0
        if code < 0:
            why = f"was killed by {signal.Signals(-code).name}; if memory ran out, run fewer at a time (jobs)"
        else:
            why = (
                f"ended with exit code {code}; its output says why. A script that starts processes "
                'needs `if __name__ == "__main__":`'
            )
        raise FadiagError(f"the process of {name!r} {why}") from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Make processes that start inside load their numerical libraries with one thread."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in processes that start inside, from their first instruction on."""
    # Otherwise the resource tracker starts with the first process, and lifts the block.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
