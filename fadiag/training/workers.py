"""Processes for runs side by side, each with one thread for its numerical libraries."""

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

#: What the numerical libraries read when a process loads them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

#: Each process by the pipe that leads to it.
Pool: TypeAlias = Mapping[Any, BaseProcess]


@contextmanager
def worker_pool(jobs: int) -> Iterator[Pool]:
    """Open a pool of spawned processes with one thread each: results do not depend on ``jobs``.

    Leaving with an error waits for the calls that have begun. Leaving with an interrupt kills them: Ctrl-C
    interrupts this process only. Nothing here has threads or locks, which a second Ctrl-C could break.
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

    A process gets a call when it has ended the one before. The error of a call is raised; then, or when the
    caller goes away, nothing more is begun.

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
    """Answer the calls that come through the pipe, in the worker, until the other end is closed."""
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
    """Say which call was lost where the process at the other end of a pipe is gone."""
    try:
        yield
    except (EOFError, ConnectionError):
        process.join()
        code = process.exitcode or 0
        if code < 0:
            why = f"was killed by {signal.Signals(-code).name}; if memory ran out, run fewer at a time (jobs)"
        else:
            why = (
                f"ended with exit code {code}; what it printed says why. A script that starts processes "
                'needs `if __name__ == "__main__":`'
            )
        raise FadiagError(f"the process of {name!r} {why}") from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have the processes that start inside load their numerical libraries with one thread."""
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
    """Have the processes that start inside never hear Ctrl-C, from their first instruction on."""
    resource_tracker.ensure_running()  # it starts with the first process, and would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
