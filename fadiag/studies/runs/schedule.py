"""Finish the runs of a study in local processes or on a cluster, with its progress and its errors."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from fadiag.analysis import cluster_executor
from fadiag.errors import ClusterError, FadiagError, StoreError
from fadiag.studies.runs.pool import Answer, finish_run, outcome_of
from fadiag.studies.runs.workers import Calls, run_each, worker_pool
from fadiag.training import Config

__all__ = ["Backend", "Progress", "Progressing", "backend", "finish_runs"]

#: Called after each run with the runs done, the runs in all, and what there is to say.
Progress: TypeAlias = Callable[[int, int, str], None]
_Ended: TypeAlias = Iterator[tuple[str, Any, Exception | None]]
#: Calls a function for each of the calls, somewhere, and yields them as they end.
Backend: TypeAlias = Callable[[Callable[..., Any], Calls], _Ended]


class Progressing:
    """Count finished runs and estimate the time that is left.

    Parameters
    ----------
    total : int
        All runs of the study.
    report : callable, optional
    """

    def __init__(self, total: int, report: Progress | None) -> None:
        self._total, self._report = total, report
        self._done = self._made = 0
        self._begun = time.monotonic()

    def there(self, number: int) -> None:
        """Count runs that were in the pool already."""
        self._done += number
        if number and self._report is not None:
            self._report(self._done, self._total, "already there")

    def made(self, name: str) -> None:
        """Count a run that has ended now."""
        self._done, self._made = self._done + 1, self._made + 1
        each = (time.monotonic() - self._begun) / self._made
        if self._report is not None:
            self._report(self._done, self._total, f"{name}, {_words(each * (self._total - self._done))} left")

    def without(self, number: int) -> None:
        """Take away runs that will not be made."""
        self._total -= number


@contextmanager
def backend(workers: int, scheduler: str | None) -> Iterator[Backend]:
    """Open the place where runs are made: this process (no workers), local processes, or a dask cluster.

    Raises
    ------
    ClusterError
        dask.distributed is not installed, or the cluster cannot be reached or is lost.
    """
    if scheduler is not None:
        with cluster_executor(scheduler) as executor:
            try:
                yield lambda function, calls: _on_cluster(executor, function, calls)
            except (OSError, CancelledError) as cause:
                raise ClusterError(
                    f"the cluster at {scheduler} was lost ({type(cause).__name__}: {cause}); the finished "
                    "runs are in the pool, so start a cluster and run the study again"
                ) from cause
    elif workers == 0:
        yield _here
    else:
        with worker_pool(workers) as pool:
            yield lambda function, calls: run_each(pool, function, calls)


def finish_runs(
    runs: Mapping[Path, tuple[str, Config]],
    where: Callable[[int], Any],
    *,
    device: str,
    progress: Progressing,
) -> dict[Path, Answer]:
    """Finish runs, each in its folder, and return how each ended.

    Runs on which another study works come last, and are waited for. No run ends another, except that none
    begins after the disk is full.

    Parameters
    ----------
    runs : mapping of Path to (str, Config)
        The name and configuration of each run by its folder.
    where : callable
        Gets the number of runs to make, and returns a context manager that yields a `Backend`.
    device : str
    progress : Progressing

    Raises
    ------
    StoreError
        The disk is full.
    FadiagError
        A run failed; the others are finished.
    """
    ended = {place: Answer(o.status, o.message) for place in runs if (o := outcome_of(place)) is not None}
    progress.there(len(ended))
    todo = [place for place in runs if place not in ended]
    if not todo:
        return ended
    calls: Calls = deque((str(place), (place, runs[place][1], device, False)) for place in todo)
    busy: list[Path] = []
    troubles: dict[Path, Answer] = {}
    full = False
    with where(len(todo)) as opened:
        for key, result, error in opened(finish_run, calls):
            place = Path(key)
            answer = Answer("failed", str(error)) if error is not None else result
            if answer.status == "busy":
                busy.append(place)
            elif answer.status in ("complete", "diverged"):
                ended[place] = answer
                progress.made(runs[place][0])
            else:
                troubles[place] = answer
            if answer.status == "full":
                full = True
                break  # what has begun ends, and no other run begins
            if not calls:
                calls.extend((str(one), (one, runs[one][1], device, True)) for one in busy)
                busy.clear()
    if full:
        kept = sum(outcome_of(place) is not None for place in runs)
        raise StoreError(
            f"the disk of {todo[0].parent} is full: {kept} of {len(runs)} runs are finished and kept; "
            "make room, and run the study again to go on"
        )
    if troubles:
        names: dict[str, list[str]] = {}
        for place, one in troubles.items():
            names.setdefault(one.message, []).append(f"{runs[place][0]} ({place.name})")
        texts = "; ".join(f"{', '.join(of)}: {message}" for message, of in names.items())
        raise FadiagError(
            f"{len(troubles)} of {len(runs)} runs failed, and {len(ended)} are finished and kept: {texts}"
        )
    return ended


def _here(function: Callable[..., Any], calls: Calls) -> _Ended:
    while calls:
        name, arguments = calls.popleft()
        yield name, function(*arguments), None


def _on_cluster(executor: Executor, function: Callable[..., Any], calls: Calls) -> _Ended:
    running: dict[Future[Any], str] = {}
    try:
        while calls or running:
            while calls:
                name, arguments = calls.popleft()
                running[executor.submit(function, *arguments)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                error = future.exception()
                if isinstance(error, (OSError, CancelledError)):
                    raise error
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield name, None if error else future.result(), error
    finally:
        for future in running:
            future.cancel()


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
