"""Cut the work into blocks: the metrics of one layer of one stream over some steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.nulls import misfit
from fadiag.analysis.metrics.signal_refs import parse
from fadiag.analysis.plan.block import Block
from fadiag.analysis.plan.records import declared_at, first_record, recent_records, records_at
from fadiag.analysis.plan.requirements import LayerContext, layer_contexts
from fadiag.analysis.plan.rows import SpectraSteps, rows_kept
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.results.left_out import LeftOut
from fadiag.store import Unfolding

__all__ = ["BLOCK_BYTES", "Known", "Options", "Task", "plan"]

#: Bytes of signals that one block reads. Its float64 work arrays take a few times as much.
BLOCK_BYTES = 8 * 2**20

#: The steps that already have a value: (run, stream, layer, metric) -> one bool per step.
Known = Callable[[Run, Stream, str, Metric], NDArray[np.bool_]]


@dataclass(frozen=True)
class Options:
    """The options of `analyze` that every block needs."""

    unfolding: Unfolding = "samples"
    k: int | None = None
    strict: bool = False
    spectra_steps: SpectraSteps = "ends"


@dataclass(frozen=True)
class Task:
    """A block, and the place of its values in the results."""

    run: Run
    stream: str
    layer: str
    block: Block


def _steps_per_block(arrays: Mapping[str, xr.DataArray], windows: Mapping[str, NDArray[np.intp]]) -> int:
    """Return how many steps fit into `BLOCK_BYTES`, in whole chunks of the largest signal."""
    if not arrays:
        return BLOCK_BYTES  # nothing to read
    record = {name: array.nbytes // max(1, array.sizes["step"]) for name, array in arrays.items()}
    record |= {name: record[name] * at.shape[1] for name, at in windows.items()}
    largest = max(record, key=lambda name: record[name])
    chunk = int((arrays[largest].encoding.get("preferred_chunks") or {}).get("step", 1))
    steps = max(1, BLOCK_BYTES // max(1, sum(record.values())))
    return steps // chunk * chunk or steps


def _layer_tasks(
    context: LayerContext, metrics: Sequence[Metric], known: Known, options: Options
) -> Iterator[Task]:
    stream = context.stream
    able = [fitted for metric in metrics if (fitted := context.resolve(metric)) is not None]
    have = {metric.name: known(context.run, stream, context.layer, metric) for metric in able}
    for metric in able:
        if metric.axis:
            have[metric.name] = have[metric.name] | ~rows_kept(stream, options.spectra_steps)
    groups: dict[tuple[Metric, ...], list[int]] = {}
    for i in range(len(stream.steps)):
        groups.setdefault(tuple(metric for metric in able if not have[metric.name][i]), []).append(i)
    for wanted, members in groups.items():
        # Metrics that read many arrays per step get separate blocks, so the others fit more steps in one.
        for wide in (False, True):
            if part := tuple(metric for metric in wanted if _is_wide(metric) is wide):
                yield from _group_tasks(context, part, np.asarray(members, np.intp), options)


def _is_wide(metric: Metric) -> bool:
    return any(ref.above > 0 or ref.records == "recent" for ref in metric.refs)


@dataclass(frozen=True)
class _Found:
    """The arrays of a group of metrics.

    ``arrays`` have one entry per step, except at the steps marked in ``missing``. ``static`` arrays have no
    step axis. ``windows`` holds the positions in an array that each step reads.
    """

    arrays: dict[str, xr.DataArray]
    missing: dict[str, NDArray[np.bool_]]
    static: dict[str, xr.DataArray]
    windows: dict[str, NDArray[np.intp]]


def _find(context: LayerContext, signals: Sequence[str]) -> _Found:
    stream, found = context.stream, _Found({}, {}, {}, {})
    for signal in signals:
        array, ref = context.array(signal), parse(signal)
        assert array is not None  # the metric resolved here
        if "step" not in array.dims:
            found.static[signal] = array
        elif ref.records == "first":
            found.static[signal] = first_record(array)
            if (own := stream.own_rows.get(context.layer)) is not None:
                found.missing[signal] = own != own[declared_at(array)]
        elif ref.records == "recent":
            found.arrays[signal] = array
            found.windows[signal], found.missing[signal] = recent_records(
                array, stream.rows_of(context.layer)
            )
        elif ref.stream == "state":
            steps = next(s.steps for s in context.run.streams.values() if s.kind == "state")
            found.arrays[signal], found.missing[signal] = records_at(array, steps, stream.steps)
        else:
            found.arrays[signal] = array
            if late := declared_at(array):
                found.missing[signal] = np.arange(len(stream.steps)) < late
    return found


def _selection(positions: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return increasing positions, as a slice if they have no gaps, since a slice reads faster."""
    contiguous = positions[-1] - positions[0] == len(positions) - 1
    return slice(int(positions[0]), int(positions[-1]) + 1) if contiguous else positions


def _group_tasks(
    context: LayerContext, metrics: tuple[Metric, ...], members: NDArray[np.intp], options: Options
) -> Iterator[Task]:
    """Cut steps, given by position, that need the same metrics into blocks."""
    run, stream, name = context.run, context.stream, context.layer
    layer = run.layer(stream, name, options.unfolding, options.k)
    rows = stream.rows_of(name)
    own = stream.layers[name]
    nulls = {
        s
        for metric in metrics
        for s in (*metric.null_signals, *metric.read_too)
        if context.array(s) is not None and not misfit(s, own, layer)
    }
    found = _find(context, sorted({s for metric in metrics for s in metric.signals} | nulls))
    arrays, missing, static = found.arrays, found.missing, found.static
    # There is nothing to measure at steps where every metric lacks a signal.
    nothing = np.ones(len(stream.steps), np.bool_)
    for metric in metrics:
        lacks = [missing[s] for s in metric.signals if s in missing]
        nothing &= np.any(lacks, axis=0) if lacks else False
    members = members[~nothing[members]]
    # The last state has no update, a new optimizer has no momentum, and a null is not drawn at every step.
    refs = {s: parse(s) for s in (*arrays, *static)}
    may_lack = {
        s
        for s in arrays
        if refs[s].stream == "state" or (stream.kind == "state" and refs[s].signal != "weight")
    }
    size = _steps_per_block(arrays, found.windows)
    for start in range(0, len(members), size):
        part = members[start : start + size]
        windows = {s: np.unique(w[part], return_inverse=True) for s, w in found.windows.items()}
        at = _selection(part)
        block = Block(
            run=run.label,
            stream=stream.name,
            layer=layer,
            steps=stream.steps[part],
            rows_valid=None if rows is None else rows[part],
            arrays={
                s: a.isel(step=_selection(windows[s][0]) if s in windows else at) for s, a in arrays.items()
            },
            windows={s: place_in.reshape(len(part), -1) for s, (_, place_in) in windows.items()},
            owners={s: context.owner(ref.above) or name for s, ref in refs.items()},
            missing={s: m[part] for s, m in missing.items()},
            static=static,
            optional=frozenset(nulls | may_lack),
            metrics=metrics,
            strict=options.strict,
        )
        yield Task(run, stream.name, name, block)


def plan(
    runs: Sequence[Run], metrics: Sequence[Metric], options: Options, known: Known, unmeasured: Unmeasured
) -> list[Task]:
    """Return the blocks of values still to be measured, ordered by run, stream, layer and step.

    A stream with invalid attributes or arrays is left out.
    """
    tasks: list[Task] = []
    for run in runs:
        for stream in run.streams.values():
            with unmeasured.catching(LeftOut(run.label, "", stream.name, signal="every signal")):
                for context in layer_contexts(run, stream):
                    tasks += _layer_tasks(context, metrics, known, options)
    return tasks
