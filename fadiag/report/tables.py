"""Build the tables of a report: final values, runs, definitions and what was left out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import label
from fadiag.figures.words.sentences import LAST, not_compared, number, when
from fadiag.results import by_condition, final_values, mean_interval
from fadiag.results.error_check import doubts
from fadiag.results.left_out import LeftOut, left_out
from fadiag.results.null_values import AT_CEILING, is_companion
from fadiag.results.run_labels import as_text
from fadiag.results.variables import find_variable, streams_of
from fadiag.results.without_value import runs_of

__all__ = ["Table", "definitions", "doubted", "finals", "lost", "or_why", "runs", "scalars"]

#: The mark of a cell with a rank at its ceiling.
_MARK = " †"

#: Variables in the table of the last step, and their heads.
_SHOWN = {
    "error_participation_ratio_raw": "error PR, raw",
    "error_participation_ratio_centered": "error PR, centered",
    "error_effective_rank_raw": "error effective rank, raw",
    "modulator_participation_ratio_raw": "modulator PR, raw",
    "modulator_effective_rank_raw": "modulator effective rank, raw",
    "weight_feedback_cosine": "cos(W, B)",
    "error_cosine": "cos(error, error_bp)",
    "error_overlap": "overlap with error_bp",
}


@dataclass(frozen=True)
class Table:
    """A head, rows of text and a note; ``missing`` is the reason if there is no table."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    missing: str = ""


def or_why(table: Callable[[xr.DataTree], Table], results: xr.DataTree) -> Table:
    """Return a table of results, or an empty table with the reason."""
    try:
        return table(results)
    except FadiagError as error:
        return Table((), (), missing=str(error))


def _variables(results: xr.DataTree) -> dict[str, tuple[str, xr.DataArray]]:
    """Return each variable with its stream; if several streams have it, use the one of the figures."""
    names = dict.fromkeys(str(name) for node in results.children.values() for name in node.data_vars)
    found = {name: find_variable(results, name, streams_of(results, [name])) for name in names}
    return {name: at for name, at in found.items() if at is not None}


def _cells(at_end: xr.DataArray, at_ceiling: xr.DataArray | None = None) -> dict[tuple[str, ...], str]:
    """Return ``mean [low, high]`` over seeds, by condition or by (layer, condition).

    A cell gives the number of runs with a value, if some have none. It is marked if a run is at its ceiling.
    """
    over = mean_interval(at_end)
    marked = None if at_ceiling is None else at_ceiling.reindex_like(at_end).max("seed")
    cells = {}
    for place in np.ndindex(over.mean.shape):
        at = {dim: str(over.mean[dim].values[i]) for dim, i in zip(over.mean.dims, place, strict=True)}
        n, runs = int(over.n.values[place]), len(runs_of(at_end, at["condition"]))
        mean, low, high = (number(float(part.values[place])) for part in (over.mean, over.low, over.high))
        seeds = f" ({n} of {runs} seeds)" if n < runs else " (one seed)" if n == 1 else ""
        text = "" if n == 0 else f"{mean} [{low}, {high}]" * (n > 1) + mean * (n == 1) + seeds
        cells[tuple(at.values())] = text + _MARK * (marked is not None and bool(marked.sel(at) == 1))
    return cells


def _at_ceiling(results: xr.DataTree, name: str, stream: str, end: xr.DataArray) -> xr.DataArray | None:
    """Return which final values of a rank are at their ceiling; None if none is at any step."""
    mark = f"{name}_{AT_CEILING}"
    if mark not in results[stream].data_vars or int(end["step"]) < 0:
        return None
    return by_condition(results, mark, stream=stream).sel(step=int(end["step"]))


def finals(results: xr.DataTree) -> Table:
    """Return the table of final values by layer and condition."""
    streams = streams_of(results, tuple(_SHOWN))
    found = {name: find_variable(results, name, streams) for name in _SHOWN}
    taken = {name: at[0] for name, at in found.items() if at is not None and "layer" in at[1].dims}
    names = list(taken)
    ends = {name: final_values(by_condition(results, name, stream=at)) for name, at in taken.items()}
    columns = {
        name: _cells(
            end.transpose("layer", "condition", "seed"), _at_ceiling(results, name, taken[name], end)
        )
        for name, end in ends.items()
    }
    keys = dict.fromkeys(key for cells in columns.values() for key in cells)
    rows = []
    for layer, condition in keys:  # layer by layer, since readers compare conditions
        row = [columns[name].get((layer, condition), "") for name in names]
        if any(row):
            rows.append((layer, label(condition), *(cell or "—" for cell in row)))
    other = _elsewhere({_SHOWN[name]: end for name, end in ends.items()})
    note = f"Mean over seeds [95 % t interval] at the last recorded step{', unless stated' * bool(other)}. "
    note += f"PR: participation ratio.{other}"
    if any(_MARK in cell for row in rows for cell in row):
        note += f" {_MARK.strip()}: a run is at its ceiling, within 1 % of min(N, n)."
    if "error_overlap" in ends:
        note += _k_of(ends["error_overlap"])
    apart = dict.fromkeys(
        why for end in ends.values() if (why := not_compared(end, map(str, end["condition"].values)))
    )
    note += "".join(f" Conditions are {why}." for why in apart)
    if len(streams) > 1:
        note += f" Measured on the stream '{streams[0]}', not on {', '.join(streams[1:])}."
    return Table(("layer", "condition", *(_SHOWN[name] for name in names)), tuple(rows), note)


def _k_of(overlap: xr.DataArray) -> str:
    attrs = overlap.attrs
    guess = f", {attrs['k_source']}" if "k_source" in attrs else ""
    return (
        f" Overlaps compare k = {attrs['k']} directions{guess}, or all directions of a layer with fewer."
        if "k" in attrs
        else ""
    )


def scalars(results: xr.DataTree) -> Table:
    """Return the table of final logged scalars (loss, accuracy) by condition."""
    names = [name for name, (_, array) in _variables(results).items() if array.dims == ("run", "step")]
    ends = {name: final_values(by_condition(results, name)) for name in names}
    columns = {name: _cells(end.transpose("condition", "seed")) for name, end in ends.items()}
    conditions = dict.fromkeys(key[0] for cells in columns.values() for key in cells)
    rows = tuple((label(m), *(columns[name].get((m,), "") or "—" for name in names)) for m in conditions)
    head = ("condition", *(name.replace("_", " ") for name in names))
    note = "Mean over seeds [95 % t interval] at the last step that has a value."
    return Table(head, rows, note + _elsewhere({name.replace("_", " "): end for name, end in ends.items()}))


def _elsewhere(ends: dict[str, xr.DataArray]) -> str:
    """Return a note on columns at another step, for conditions that do not share the last one."""
    columns: dict[str, list[str]] = {}
    for name, end in ends.items():
        columns.setdefault(when(end), []).append(name)
    return "".join(f" {', '.join(names)}: at {step}." for step, names in columns.items() if step != LAST)


def lost(results: xr.DataTree) -> Table:
    """Return the table of what the analysis left out: a row per metric or signal, with layers and reason."""
    rows: dict[tuple[str, str, str], list[LeftOut]] = {}
    for record in left_out(results):
        rows.setdefault((record.run, record.stream, record.name), []).append(record)
    cells = []
    for (run, stream, name), records in rows.items():
        first = min(records, key=lambda record: -1 if record.step is None else record.step)
        layers = ", ".join(record.layer for record in records if record.layer)
        step = "" if first.step is None else str(first.step)
        cells.append((run, stream, layers, name or "the whole run", step, str(first.steps), first.reason))
    head = ("run", "stream", "layers", "metric or signal", "first step", "steps", "reason (of the first)")
    return Table(
        head, tuple(cells), "Items left out have no values in these results. Everything else was measured."
    )


def doubted(results: xr.DataTree) -> Table:
    """Return the table of layers where error_bp, and so any comparison with it, may be wrong."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for run, stream, verdict, words in doubts(results):
        rows.setdefault((stream, verdict, words), []).append(run)
    cells = tuple((", ".join(runs), *what) for what, runs in rows.items())
    note = "Here cosines, overlaps and angles with error_bp, modulator_bp and gradient_bp are in doubt."
    return Table(("runs", "stream", "check of error_bp", "meaning"), cells, note)


def runs(results: xr.DataTree) -> tuple[Table, Table]:
    """Return a table of the entries that all runs share, and one of the others with a row per run."""
    streams = {name: node.to_dataset() for name, node in results.children.items() if "run" in node.coords}
    labels = list(dict.fromkeys(str(run) for stream in streams.values() for run in stream["run"].values))
    coords = _coordinates(streams)
    coords = dict(sorted(coords.items(), key=lambda item: item[0] == "run_id"))  # put the widest column last
    # A single run shares everything with itself; show its entries as a row.
    shared = {name: values[0] for name, values in coords.items() if len(set(values)) == 1 and len(labels) > 1}
    differing = {name: values for name, values in coords.items() if name not in shared}
    attrs = {"results made": results.attrs.get("created", ""), "versions": results.attrs.get("versions", "")}
    made = [(key, str(value)) for key, value in attrs.items() if value]
    common = Table(("entry", "value"), (*made, ("runs", str(len(labels))), *shared.items()))
    each = tuple((run, *(differing[name][i] for name in differing)) for i, run in enumerate(labels))
    return common, Table(("run", *differing), each)


def _coordinates(streams: dict[str, xr.Dataset]) -> dict[str, list[str]]:
    """Return the entries of the runs; if streams differ in an entry, return one entry per stream."""
    entries: dict[str, dict[str, list[str]]] = {}
    for stream, dataset in streams.items():
        for name, coord in dataset.coords.items():
            if coord.dims == ("run",) and name != "run":
                entries.setdefault(str(name), {})[stream] = [as_text(value) for value in coord.values]
    coords = {}
    for name, by_stream in entries.items():
        alike = len(set(map(tuple, by_stream.values()))) == 1
        for stream, values in by_stream.items():
            coords[name if alike else f"{name} of {stream}"] = values
    return coords


def definitions(results: xr.DataTree) -> Table:
    """Return the table of definitions: description, formula, source, version and data of each variable."""
    rows = []
    for name, (stream, array) in sorted(_variables(results).items()):
        if is_companion(name):
            continue
        attrs = array.attrs
        on = [stream]
        if "samples" in attrs:
            on.append(f"N = {attrs['samples']}")
        on += [f"{attrs[key]}" for key in ("split", "unfolding") if attrs.get(key)]
        on += [f"{attrs['probe_mode']} mode"] if attrs.get("probe_mode") else []
        words = str(attrs.get("long_name", ""))
        cells = [str(attrs.get(key, "")) for key in ("formula", "source", "definition_version")]
        rows.append((name, words, *cells, ", ".join(on)))
    return Table(("variable", "description", "formula", "source", "version", "measured on"), tuple(rows))
