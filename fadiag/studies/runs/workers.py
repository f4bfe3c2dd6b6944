"""Run calls in parallel processes, each with one thread for its numerical libraries."""

import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

from fadiag.errors import FadiagError

__all__ = ["Calls", "WorkerPool", "run_each", "worker_pool"]

#: Environment variables that the numerical libraries read when a process loads them.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

#: Calls that wait, each with its name and arguments. The caller may add some, or remove them, at any time.
Calls: TypeAlias = deque[tuple[str, tuple[Any, ...]]]


class WorkerPool:
    """Spawned processes, each under the parent's end of its pipe.

    Examples
    --------
    >>> WorkerPool().processes
    {}
    """

    def __init__(self) -> None:
        self.processes: dict[Any, BaseProcess] = {}

    def start(self, number: int) -> list[Any]:
        """Start processes, and return the parent's ends of their pipes."""
        context = get_context("spawn")
        begun = []
        with _one_thread(), _interrupts_blocked():
            for _ in range(number):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self.processes[ours] = process
                begun.append(ours)
        return begun


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """Open a pool of spawned processes with one thread each: results do not depend on their number.

    After an error, the pool waits for the calls that have begun. After an interrupt it kills their processes,
    because Ctrl-C reaches only this process. The pool uses no threads or locks, so a second Ctrl-C is safe.
    """
    pool = WorkerPool()
    try:
        pool.start(workers)
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            for worker in pool.processes.values():
                worker.kill()
        raise
    finally:
        for pipe, worker in pool.processes.items():
            pipe.close()  # the worker ends after its call
            worker.join()


def run_each(
    pool: WorkerPool, function: Callable[..., Any], calls: Calls
) -> Iterator[tuple[str, Any, Exception | None]]:
    """Call a function in the pool; yield each call's name with its result, or its error, when it has ended.

    A process gets its next call when its previous one has ended. A process that dies gives a FadiagError, and
    another one takes its place.
    """
    idle, running = list(pool.processes), dict[Any, str]()
    while True:
        while idle and calls:
            pipe, (name, arguments) = idle.pop(), calls.popleft()
            running[pipe] = name
            with suppress(ConnectionError):  # if it has died, the pipe below says so
                pipe.send((function, arguments))
        if not running:
            return
        ready: list[Any] = connection.wait(list(running))
        for pipe in ready:
            name = running.pop(pipe)
            try:
                result, error = pipe.recv()
                idle.append(pipe)
            except (EOFError, ConnectionError):
                result, error = None, _death(name, pool.processes.pop(pipe))
                pipe.close()
                if calls:
                    idle += pool.start(1)
            yield name, result, error


def _serve(pipe: "Connection[Any, Any]") -> None:
    """Run the calls that come through the pipe until its other end is closed; the worker's main loop."""
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


def _death(name: str, process: BaseProcess) -> FadiagError:
    """Return an error that names the call, and says how its process ended."""
    process.join()
    code = process.exitcode or 0
    if code < 0:
        why = f"was killed by {signal.Signals(-code).name}; if memory ran out, take fewer workers"
    else:
        why = (
            f"ended with exit code {code}; its output says why. A script that starts processes "
            'needs `if __name__ == "__main__":`'
        )
    return FadiagError(f"the process of {name!r} {why}")


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
