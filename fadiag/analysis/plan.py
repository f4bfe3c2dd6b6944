"""Cutting the work into blocks: which metrics each layer of each stream can give, over which steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.block import Block
from fadiag.analysis.matrix import Unfolding
from fadiag.analysis.metric import Metric
from fadiag.analysis.source import Run, Stream
from fadiag.errors import MissingSignalError

__all__ = ["BLOCK_BYTES", "Task", "check_asked", "plan"]

#: Bytes of signals that one block reads; its float64 work arrays are a few times that.
BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Task:
    """A block, and where its values go in the results."""

    run: Run
    stream: str
    layer: str
    start: int
    block: Block


def _sources(run: Run, stream: Stream, layer: str) -> dict[str, xr.DataArray]:
    """Return every array that a metric of this layer can name."""
    found = dict(stream.layers[layer])
    for name, array in run.static.get(layer, {}).items():
        found[f"static/{name}"] = array
    for other in run.streams.values():
        if other.kind == "state" and other is not stream:
            found |= {f"state/{name}": array for name, array in other.layers.get(layer, {}).items()}
    return found


def _fits(metric: Metric, stream: Stream, layer: str, sources: Mapping[str, xr.DataArray]) -> bool:
    """Tell whether a layer gives a metric: kind, feedback, signals, and rows where rows are needed."""
    if stream.kind not in metric.kinds or not all(_stored(s, sources) for s in metric.signals):
        return False
    attrs = stream.layer_attrs[layer]
    if metric.layers == "layerwise" and (
        attrs.get("feedback_kind") != "layerwise" or int(attrs.get("order", 0)) == 0
    ):
        return False
    return metric.needs == "matrix" or all(
        sources[s].attrs.get("reduction", "raw") != "factor" for s in metric.signals if s in sources
    )


def _stored(signal: str, sources: Mapping[str, xr.DataArray]) -> bool:
    # Feedback that is learned is recorded over time, in the place of the static one.
    return signal in sources or (signal == "static/feedback" and "feedback" in sources)


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
    """Bring an array of another stream to this stream's steps; the mask tells the steps that it does not have."""
    position = np.searchsorted(other, home.steps).clip(0, max(0, len(other) - 1))
    missing = other[position] != home.steps
    return array.isel(step=position), missing


def _layer_tasks(
    run: Run, stream: Stream, name: str, metrics: Sequence[Metric], options: Mapping[str, Any]
) -> Iterator[Task]:
    sources = _sources(run, stream, name)
    able = tuple(metric for metric in metrics if _fits(metric, stream, name, sources))
    if not able:
        return
    wanted = {s for metric in able for s in metric.signals} | {
        s for metric in able for s in metric.null_signals if s in sources
    }
    arrays: dict[str, xr.DataArray] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    static: dict[str, xr.DataArray] = {}
    steps_of = {s.name: s.steps for s in run.streams.values() if s.kind == "state" and s is not stream}
    for signal in sorted(wanted):
        if signal == "static/feedback" and "feedback" in stream.layers[name]:
            arrays[signal] = stream.layers[name]["feedback"]
        elif signal.startswith("static/"):
            static[signal] = sources[signal]
        elif signal.startswith("state/"):
            arrays[signal], missing[signal] = _foreign(sources[signal], stream, next(iter(steps_of.values())))
        else:
            arrays[signal] = sources[signal]
    # In a state stream the last record has no update, and a fresh optimiser no momentum; a null is not drawn each time.
    nulls = {s for metric in able for s in metric.null_signals}
    optional = frozenset(nulls | ({s for s in arrays if s != "weight"} if stream.kind == "state" else set()))
    layer = run.layer(stream, name, options["unfolding"], options["k"])
    size = _steps_a_block(arrays)
    for start in range(0, len(stream.steps), size):
        part = slice(start, start + size)
        yield Task(
            run,
            stream.name,
            name,
            start,
            Block(
                run=run.label,
                layer=layer,
                steps=stream.steps[part],
                rows_valid=None if stream.rows_valid is None else stream.rows_valid[part],
                arrays={s: a.isel(step=part) for s, a in arrays.items()},
                missing={s: m[part] for s, m in missing.items()},
                static=static,
                optional=optional | frozenset(s for s in arrays if s.startswith("state/")),
                metrics=able,
                skip_invalid=options["skip_invalid"],
            ),
        )


def plan(
    runs: Sequence[Run], metrics: Sequence[Metric], *, unfolding: Unfolding, k: int | None, skip_invalid: bool
) -> list[Task]:
    """Return the blocks of all runs, in the order of runs, streams, layers and steps."""
    options = {"unfolding": unfolding, "k": k, "skip_invalid": skip_invalid}
    return [
        task
        for run in runs
        for stream in run.streams.values()
        for name in stream.layers
        for task in _layer_tasks(run, stream, name, metrics, options)
    ]


def check_asked(runs: Sequence[Run], metrics: Sequence[Metric]) -> None:
    """Refuse a metric, asked for by name, that no layer of a run can give.

    Raises
    ------
    MissingSignalError
        It names the run, the layer, the signal and what was recorded instead.
    """
    for run in runs:
        for metric in metrics:
            places = [(s, name) for s in run.streams.values() if s.kind in metric.kinds for name in s.layers]
            sources = {place: _sources(run, *place) for place in places}
            if any(_fits(metric, *place, sources[place]) for place in places):
                continue
            if not places:
                have = ", ".join(f"{s.name} ({s.kind})" for s in run.streams.values())
                raise MissingSignalError(
                    f"{metric.name} needs a stream of kind {' or '.join(metric.kinds)}; run {run.label} recorded {have}"
                )
            _raise_missing(run, metric, places, sources)


def _raise_missing(
    run: Run,
    metric: Metric,
    places: Sequence[tuple[Stream, str]],
    sources: Mapping[tuple[Stream, str], Mapping[str, xr.DataArray]],
) -> None:
    for place in places:
        absent = [s for s in metric.signals if not _stored(s, sources[place])]
        if absent:
            recorded = ", ".join(sorted(sources[place])) or "nothing"
            raise MissingSignalError(
                f"{metric.name} needs the signal {absent[0]!r}; run {run.label}, layer '{place[1]}' recorded {recorded}"
            )
    if metric.layers == "layerwise":
        raise MissingSignalError(
            f"{metric.name} needs layerwise feedback above the first layer; run {run.label} has none"
        )
    raise MissingSignalError(
        f"{metric.name} needs the rows of {', '.join(metric.signals)}; run {run.label} recorded only a factor"
    )
