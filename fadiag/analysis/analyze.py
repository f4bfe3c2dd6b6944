"""Measure the metrics of recorded runs with `analyze`."""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any, Literal

import xarray as xr

from fadiag.analysis.assemble import Assembly
from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.spectra import ranks_of_recorded, spectrum_metrics
from fadiag.analysis.metrics.table import choose
from fadiag.analysis.plan.block import Block, Measured, measure
from fadiag.analysis.plan.given_meta import GivenMeta
from fadiag.analysis.plan.requirements import check_asked, other_unfolding
from fadiag.analysis.plan.rows import check_spectra_steps
from fadiag.analysis.plan.runs import Run, open_runs
from fadiag.analysis.plan.tasks import Options, Task, plan
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.analysis.threads import one_blas_thread
from fadiag.cores import available_cores
from fadiag.errors import AnalysisWarning, InputError, MissingSignalError
from fadiag.results.io import READABLE, check_output, load_results, save_results
from fadiag.results.left_out import LeftOut, told_by_run
from fadiag.spectra.validate import as_count
from fadiag.store import UNFOLDINGS, Unfolding

__all__ = ["SAVE_EVERY", "analyze"]

#: Seconds between two saves of unfinished results. An interrupted analysis resumes from the last save.
SAVE_EVERY = 30.0


def _measure_alone(block: Block) -> Measured:
    """Measure a block with one BLAS thread, in whatever worker the executor runs this."""
    one_blas_thread()
    return measure(block)


def _run_all(tasks: list[Task], executor: Executor, done: Callable[[Task, Measured], None]) -> None:
    waiting: dict[Future[Measured], Task] = {
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
    spectra: str | Sequence[str] | None = None,
    spectra_steps: Literal["ends", "all"] | Iterable[int] = "ends",
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    strict: bool = False,
    output: str | os.PathLike[str] | None = None,
) -> xr.DataTree:
    """Measure recorded runs: every metric of the table, each with its null, as labelled results.

    Runs are read block by block, so memory does not grow with the size of the store.

    A problem in one place does not stop the rest. It may be a run that cannot be opened, a signal that cannot
    be read or is not finite (a run that diverged), or a metric that fails. The values concerned are NaN. The
    attribute ``left_out`` of the results names each one (see `fadiag.results.left_out`), and one warning
    counts them all.

    Parameters
    ----------
    runs : path, DataTree, or sequence of them
        Recorded stores. The label of a run is ``<condition>-seed<k>`` from its meta entries, else the name of
        the store. Equal labels get a number.
    meta : mapping of path to mapping, optional
        Entries for stores already recorded, such as ``{"a.zarr": {"condition": "fa", "seed": 0}}``. They
        replace the meta entries of the same name in the run. A path is one of `runs`; an entry is a text, a
        number or a bool.
    metrics : sequence of str or Metric, optional
        Names from `fadiag.analysis.TABLE`, or your own metrics. By default every metric that the runs allow.
    unfolding : {"samples", "channels"}
        How the signals of a convolution become matrices, see `fadiag.analysis.unfold`.
    k : int, optional
        Dimension of the compared subspaces. By default it is the number of classes minus one. Subspaces are
        not compared if a run neither states its number of classes nor recorded its last layer.
    spectra : str or sequence of str, optional
        Signals whose singular values the results keep, such as ``error``: ``error_spectrum_raw`` and
        ``error_spectrum_centered``, with dims (run, layer, spectrum_step, singular_value). By default none.
    spectra_steps : {"ends", "all"} or iterable of int
        The steps at which they are kept. ``ends`` are the first and the last record of each run; of a state
        stream also the second and the last but one, since its last record has no update.
    executor : concurrent.futures.Executor, optional
        Where blocks are measured. By default one thread per core. For a cluster that can read the stores,
        use `cluster_executor` or dask.distributed's ``client.get_executor()``.
    progress : callable, optional
        Called as ``progress(done, total)`` after each block.
    strict : bool
        Raise an error for the first item that cannot be measured, instead of leaving it out.
    output : path, optional
        Also save the results there, see `fadiag.results.save_results`. If a ``.zarr`` or ``.nc`` already
        exists, its values are reused for the same recordings (run id and generation) and definitions.

    Returns
    -------
    xarray.DataTree
        One group per stream, with dims (run, layer, step), or (run, step) for the log. Coordinates along
        ``run`` are the entries of meta, ``run_id``, ``generation``, ``probe_mode`` and ``split``. The number
        of samples is in ``kept_samples``, and for gradients in ``batch_samples``.

    Raises
    ------
    InputError
        No runs, the same recording twice, meta for a path that is not among the runs, an unknown metric,
        signal or unfolding, or factors in another unfolding in every run. Or a step for spectra that no run
        has.
    StoreError
        None of the paths is a readable store.
    MissingSignalError
        No run allows a metric or a spectrum that was asked for by name.

    Warns
    -----
    AnalysisWarning
        Something was left out.

    Examples
    --------
    >>> import numpy as np
    >>> layer = xr.Dataset(
    ...     {"error": (("step", "sample", "out"), np.eye(4)[None])}, attrs={"name": "fc", "order": 0}
    ... )
    >>> probe = xr.Dataset(coords={"step": [0]}, attrs={"kind": "probe"})
    >>> run = xr.DataTree.from_dict({"/probe": probe, "/probe/fc": layer})
    >>> results = analyze(run, metrics=["error_stable_rank_raw"])
    >>> results["probe/error_stable_rank_raw"].item()
    4.0
    """
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it must be one of {', '.join(UNFOLDINGS)}")
    if k is not None:
        k = as_count(k, "k", 1)
    if output is not None:
        output = check_output(output)
    kept = spectrum_metrics(spectra) if spectra is not None else ()
    unmeasured = Unmeasured(strict)
    opened = _in_unfolding(open_runs(runs, meta, strict=strict), unfolding, strict=strict)
    for run in opened:
        if run.lost:
            unmeasured.add(LeftOut(run.label, run.lost))
    measurable = [run for run in opened if not run.lost]
    table = choose(metrics, ranks_of_recorded(_arrays_of(measurable)))
    asked = (*(table if metrics is not None else ()), *kept)
    chosen = tuple(dict.fromkeys((*table, *kept)))
    check_asked(measurable, asked, unmeasured)
    at = (
        spectra_steps
        if isinstance(spectra_steps, str)
        else tuple(as_count(s, "a step", 0) for s in spectra_steps)
    )
    check_spectra_steps(measurable, at)
    options = Options(unfolding, k, strict, at)
    # A lost run with a known condition and seed still gets a place in the results, without values.
    placed = [run for run in opened if not run.lost or {"condition", "seed"} <= set(run.meta)]
    assembly = Assembly(placed, chosen, options, unmeasured)
    resumable = output is not None and output.suffix in READABLE
    if resumable and output is not None and output.exists():
        assembly.adopt(load_results(output))
    tasks = plan(measurable, chosen, options, assembly.known, unmeasured)
    finished, saved = 0, time.monotonic()

    def done(task: Task, measured: Measured) -> None:
        nonlocal finished, saved
        assembly.put(task, measured)
        finished += 1
        if progress is not None:
            progress(finished, len(tasks))
        if output is not None and resumable and time.monotonic() - saved > SAVE_EVERY:
            save_results(assembly.tree(), output)
            saved = time.monotonic()

    with one_blas_thread():
        if executor is not None:
            _run_all(tasks, executor, done)
        else:
            with ThreadPoolExecutor(available_cores(), thread_name_prefix="fadiag") as threads:
                _run_all(tasks, threads, done)
    _refuse_lost(asked, assembly)
    results = assembly.tree()
    if output is not None:
        save_results(results, output)
    if lost := assembly.left_out:
        lines = "; ".join(told_by_run(lost))
        warnings.warn(
            f"{len(lost)} left out of the results, listed in their attribute left_out: {lines}",
            AnalysisWarning,
            stacklevel=2,
        )
    return results


def _in_unfolding(runs: list[Run], unfolding: Unfolding, *, strict: bool) -> list[Run]:
    """Mark runs with factors in another unfolding as lost; raise InputError if no run would be left."""
    reasons = {run.label: why for run in runs if (why := other_unfolding(run, unfolding))}
    if reasons and (strict or len(reasons) == sum(not run.lost for run in runs)):
        raise InputError(next(iter(reasons.values())))
    return [
        replace(run, streams={}, static={}, lost=reasons[run.label]) if run.label in reasons else run
        for run in runs
    ]


def _arrays_of(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the names of all arrays that have steps."""
    for run in runs:
        for stream in run.streams.values():
            for arrays in stream.layers.values():
                yield from arrays


def _refuse_lost(asked: Iterable[Metric], assembly: Assembly) -> None:
    """Raise MissingSignalError if a metric that was asked for by name has no value in any run."""
    for metric in asked:
        if assembly.lacks(metric.name):
            why = next((str(r) for r in assembly.left_out if r.metric == metric.name), "")
            why = why or "; ".join(told_by_run(assembly.left_out, 1)) or "no step has all that it reads"
            raise MissingSignalError(f"{metric.name} cannot be measured in any run: {why}")
