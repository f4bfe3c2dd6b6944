"""Cutting the work into blocks: which metrics each layer of each stream can give, over which steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.availability import fits, sources_of
from fadiag.analysis.block import Block
from fadiag.analysis.matrix import Unfolding
from fadiag.analysis.metric import Metric
from fadiag.analysis.source import Run, Stream

__all__ = ["BLOCK_BYTES", "Known", "Options", "Task", "plan"]

#: Bytes of signals that one block reads; its float64 work arrays are a few times that.
BLOCK_BYTES = 8 * 2**20


#: Which steps of a stream have the value of a metric already: (run, stream, layer, metric) -> a bool a step.
Known = Callable[[Run, Stream, str, Metric], NDArray[np.bool_]]


@dataclass(frozen=True)
class Options:
    """What the user asked of every block."""

    unfolding: Unfolding = "samples"
    k: int | None = None
    skip_invalid: bool = False


@dataclass(frozen=True)
class Task:
    """A block, and where its values go in the results."""

    run: Run
    stream: str
    layer: str
    block: Block


def _steps_a_block(arrays: Mapping[str, xr.DataArray]) -> int:
    """As many steps as fit the budget, in whole chunks of the largest signal."""
    slab = {name: array.nbytes // max(1, array.sizes["step"]) for name, array in arrays.items()}
    largest = max(slab, key=lambda name: slab[name])
    chunk = int((arrays[largest].encoding.get("preferred_chunks") or {}).get("step", 1))
    steps = max(1, BLOCK_BYTES // max(1, sum(slab.values())))
    return steps // chunk * chunk or steps


def _foreign(
    array: xr.DataArray, home: Stream, other: NDArray[np.int64]
) -> tuple[xr.DataArray, NDArray[np.bool_]]:
    """Bring an array of another stream to this stream's steps; the mask marks steps that it does not have."""
    position = np.searchsorted(other, home.steps).clip(0, max(0, len(other) - 1))
    missing = other[position] != home.steps
    return array.isel(step=position), missing


def _layer_tasks(
    run: Run, stream: Stream, name: str, metrics: Sequence[Metric], *, known: Known, options: Options
) -> Iterator[Task]:
    sources = sources_of(run, stream, name)
    able = [metric for metric in metrics if fits(metric, stream, name, sources)]
    have = {metric: known(run, stream, name, metric) for metric in able}
    groups: dict[tuple[Metric, ...], list[int]] = {}
    for i in range(len(stream.steps)):
        groups.setdefault(tuple(metric for metric in able if not have[metric][i]), []).append(i)
    for wanted, members in groups.items():
        if wanted:
            yield from _group_tasks(
                run,
                stream,
                name,
                metrics=wanted,
                members=np.asarray(members, np.intp),
                sources=sources,
                options=options,
            )


def _group_tasks(
    run: Run,
    stream: Stream,
    name: str,
    *,
    metrics: tuple[Metric, ...],
    members: NDArray[np.intp],
    sources: Mapping[str, xr.DataArray],
    options: Options,
) -> Iterator[Task]:
    """Cut the steps (by position) that need the same metrics into blocks."""
    nulls = {s for metric in metrics for s in metric.null_signals if s in sources}
    arrays: dict[str, xr.DataArray] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    static: dict[str, xr.DataArray] = {}
    for signal in sorted({s for metric in metrics for s in metric.signals} | nulls):
        if signal == "static/feedback" and "feedback" in stream.layers[name]:
            arrays[signal] = stream.layers[name]["feedback"]
        elif signal.startswith("static/"):
            static[signal] = sources[signal]
        elif signal.startswith("state/"):
            other = next(s.steps for s in run.streams.values() if s.kind == "state")
            arrays[signal], missing[signal] = _foreign(sources[signal], stream, other)
        else:
            arrays[signal] = sources[signal]
            late = int(arrays[signal].attrs.get("declared_at", 0))
            if late:  # filled up with NaN before it was first recorded
                missing[signal] = np.arange(len(stream.steps)) < late
    # The last record of a state has no update, a fresh optimiser no momentum; a null is not drawn each time.
    may_lack = {s for s in arrays if s != "weight" and (stream.kind == "state" or s.startswith("state/"))}
    size = _steps_a_block(arrays)
    for start in range(0, len(members), size):
        part = members[start : start + size]
        contiguous = part[-1] - part[0] == len(part) - 1
        at = slice(int(part[0]), int(part[-1]) + 1) if contiguous else part
        block = Block(
            run=run.label,
            layer=run.layer(stream, name, options.unfolding, options.k),
            steps=stream.steps[part],
            rows_valid=None if stream.rows_valid is None else stream.rows_valid[part],
            arrays={s: a.isel(step=at) for s, a in arrays.items()},
            missing={s: m[part] for s, m in missing.items()},
            static=static,
            optional=frozenset(nulls | may_lack),
            metrics=metrics,
            skip_invalid=options.skip_invalid,
        )
        yield Task(run, stream.name, name, block)


def plan(runs: Sequence[Run], metrics: Sequence[Metric], options: Options, known: Known) -> list[Task]:
    """Return the blocks of all runs, in the order of runs, streams, layers and steps, less what is known."""
    return [
        task
        for run in runs
        for stream in run.streams.values()
        for name in stream.layers
        for task in _layer_tasks(run, stream, name, metrics, known=known, options=options)
    ]
