"""From recorded runs to results: `analyze`."""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from typing import Any

import xarray as xr

from fadiag.analysis.assemble import Assembly
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.table import choose
from fadiag.analysis.plan.block import Block, measure
from fadiag.analysis.plan.given_meta import GivenMeta
from fadiag.analysis.plan.requirements import check_asked, check_unfolding
from fadiag.analysis.plan.runs import open_runs
from fadiag.analysis.plan.tasks import Options, Task, plan
from fadiag.analysis.threads import one_blas_thread
from fadiag.cores import available_cores
from fadiag.errors import InputError
from fadiag.results.io import READABLE, check_output, load, save
from fadiag.spectra.validate import as_count
from fadiag.store import UNFOLDINGS, Unfolding

__all__ = ["SAVE_EVERY", "analyze"]

#: Seconds between two savings of unfinished results, so that an analysis that was stopped goes on from there.
SAVE_EVERY = 30.0


def _measure_alone(block: Block) -> dict[str, Values]:
    """Measure with one BLAS thread, wherever the executor runs this."""
    one_blas_thread()
    return measure(block)


def _run_all(tasks: list[Task], executor: Executor, done: Callable[[Task, dict[str, Values]], None]) -> None:
    waiting: dict[Future[dict[str, Values]], Task] = {
        executor.submit(_measure_alone, task.block): task for task in tasks
    }
    try:
        for future in as_completed(waiting):
            done(waiting[future], future.result())
    except BaseException:
        for future in waiting:
            future.cancel()
        raise


def analyze(
    runs: Any,
    *,
    meta: GivenMeta | None = None,
    metrics: Iterable[str | Metric] | None = None,
    unfolding: Unfolding = "samples",
    k: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    skip_invalid: bool = False,
    output: str | os.PathLike[str] | None = None,
) -> xr.DataTree:
    """Measure recorded runs: every metric of the table, each with its null, as labelled results.

    Runs are read block by block and never held: memory does not grow with the store.

    Parameters
    ----------
    runs : path, DataTree, or sequence of them
        Recorded stores. A run's label is ``<condition>-seed<k>`` from its meta entries, else the store's
        name; equal labels get a number.
    meta : mapping of path to mapping, optional
        Entries of stores already recorded, such as ``{"a.zarr": {"condition": "fa", "seed": 0}}``: they go
        before the meta entries that the run recorded. A path is one of `runs`; an entry is a text, a number
        or a bool.
    metrics : sequence of str or Metric, optional
        Names from `fadiag.analysis.TABLE`, or metrics of one's own. All that the runs can give when left out.
    unfolding : {"samples", "channels"}
        Rows and columns of convolution signals, see `fadiag.analysis.unfold`.
    k : int, optional
        Dimension of compared subspaces; the number of classes less one when left out.
    executor : concurrent.futures.Executor, optional
        Where blocks are measured; a thread a core when left out. For a cluster that sees the stores, what
        `cluster_executor` yields, or dask.distributed's ``client.get_executor()``.
    progress : callable, optional
        Called as ``progress(done, total)`` after each block.
    skip_invalid : bool
        Leave a signal that holds NaN or Inf out (its values are NaN in the results) instead of raising.
    output : path, optional
        Also save the results there, see `fadiag.results.save`. Where a ``.zarr`` or ``.nc`` is there,
        what it holds of the same recordings (run id and generation) under the same definitions is not
        measured again.

    Returns
    -------
    xarray.DataTree
        A group a stream, with dims (run, layer, step), or (run, step) for the log. Coordinates along ``run``
        are the entries of meta, ``run_id``, ``generation``, and of how many samples its values are
        (``kept_samples``; of gradients ``batch_samples``), ``probe_mode`` and ``split``.

    Raises
    ------
    InputError
        No runs, one recording twice, meta of a path that is none of the runs, an unknown metric or unfolding,
        a factor recorded in another unfolding, or a signal that holds NaN or Inf.
    StoreError
        A path that is no store, a store that is damaged or empty.
    MissingSignalError
        A metric asked for by name needs a signal that a run did not record.
    """
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it must be one of {', '.join(UNFOLDINGS)}")
    if k is not None:
        k = as_count(k, "k", 1)
    if output is not None:
        output = check_output(output)
    chosen = choose(metrics)
    opened = open_runs(runs, meta)
    check_unfolding(opened, unfolding)
    if metrics is not None:
        check_asked(opened, chosen)
    options = Options(unfolding, k, skip_invalid)
    assembly = Assembly(opened, chosen, options)
    resumable = output is not None and output.suffix in READABLE
    if resumable and output is not None and output.exists():
        assembly.adopt(load(output))
    tasks = plan(opened, chosen, options, assembly.known)
    finished, saved = 0, time.monotonic()

    def done(task: Task, values: dict[str, Values]) -> None:
        nonlocal finished, saved
        assembly.put(task, values)
        finished += 1
        if progress is not None:
            progress(finished, len(tasks))
        if output is not None and resumable and time.monotonic() - saved > SAVE_EVERY:
            save(assembly.tree(), output)
            saved = time.monotonic()

    with one_blas_thread():
        if executor is not None:
            _run_all(tasks, executor, done)
        else:
            with ThreadPoolExecutor(available_cores(), thread_name_prefix="fadiag") as threads:
                _run_all(tasks, threads, done)
    results = assembly.tree()
    if output is not None:
        save(results, output)
    return results
