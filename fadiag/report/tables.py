"""The tables of a report: the last step, the runs, the definitions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import label
from fadiag.figures.captions import LAST, not_compared, number, when
from fadiag.results import by_condition, final_values, mean_interval
from fadiag.results.null_values import is_companion
from fadiag.results.run_labels import as_text
from fadiag.results.variables import find_variable, streams_of

__all__ = ["Table", "definitions", "finals", "or_why", "runs", "scalars"]

#: What the table of the last step shows of each layer, where it was measured.
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
    """A head, rows of text, and what a reader must know of them; ``missing`` says why there are none."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    missing: str = ""


def or_why(table: Callable[[xr.DataTree], Table], results: xr.DataTree) -> Table:
    """Return a table of results, or the reason for which they allow none."""
    try:
        return table(results)
    except FadiagError as error:
        return Table((), (), missing=str(error))


def _variables(results: xr.DataTree) -> dict[str, tuple[str, xr.DataArray]]:
    """Return each variable with its stream; of several streams that hold it, the one that figures take."""
    names = dict.fromkeys(str(name) for node in results.children.values() for name in node.data_vars)
    found = {name: find_variable(results, name, streams_of(results, [name])) for name in names}
    return {name: at for name, at in found.items() if at is not None}


def _cells(at_end: xr.DataArray) -> dict[tuple[str, ...], str]:
    """Return ``mean [low, high]`` over seeds, by condition or by (layer, condition)."""
    over = mean_interval(at_end)
    cells = {}
    for place in np.ndindex(over.mean.shape):
        key = tuple(str(over.mean[dim].values[i]) for dim, i in zip(over.mean.dims, place, strict=True))
        n = int(over.n.values[place])
        mean, low, high = (number(float(part.values[place])) for part in (over.mean, over.low, over.high))
        cells[key] = "" if n == 0 else f"{mean} [{low}, {high}]" if n > 1 else f"{mean} (one seed)"
    return cells


def finals(results: xr.DataTree) -> Table:
    """Return layer by condition at the last step."""
    streams = streams_of(results, tuple(_SHOWN))
    found = {name: find_variable(results, name, streams) for name in _SHOWN}
    taken = {name: at[0] for name, at in found.items() if at is not None and "layer" in at[1].dims}
    names = list(taken)
    ends = {name: final_values(by_condition(results, name, stream=at)) for name, at in taken.items()}
    columns = {name: _cells(end.transpose("layer", "condition", "seed")) for name, end in ends.items()}
    keys = dict.fromkeys(key for cells in columns.values() for key in cells)
    rows = []
    for layer, condition in keys:  # layer by layer: conditions are what a reader compares
        row = [columns[name].get((layer, condition), "") for name in names]
        if any(row):
            rows.append((layer, label(condition), *(cell or "—" for cell in row)))
    other = _elsewhere({_SHOWN[name]: end for name, end in ends.items()})
    note = f"Mean over seeds [95 % t interval] at the last recorded step{', unless told' * bool(other)}. "
    note += f"PR: participation ratio.{other}"
    apart = dict.fromkeys(
        why for end in ends.values() if (why := not_compared(end, map(str, end["condition"].values)))
    )
    note += "".join(f" Conditions are {why}." for why in apart)
    if len(streams) > 1:
        note += f" Measured on the stream '{streams[0]}', not on {', '.join(streams[1:])}."
    return Table(("layer", "condition", *(_SHOWN[name] for name in names)), tuple(rows), note)


def scalars(results: xr.DataTree) -> Table:
    """Return condition by logged scalar (loss, accuracy) at the last step."""
    names = [name for name, (_, array) in _variables(results).items() if array.dims == ("run", "step")]
    ends = {name: final_values(by_condition(results, name)) for name in names}
    columns = {name: _cells(end.transpose("condition", "seed")) for name, end in ends.items()}
    conditions = dict.fromkeys(key[0] for cells in columns.values() for key in cells)
    rows = tuple((label(m), *(columns[name].get((m,), "") or "—" for name in names)) for m in conditions)
    head = ("condition", *(name.replace("_", " ") for name in names))
    note = "Mean over seeds [95 % t interval] at the last step that has a value."
    return Table(head, rows, note + _elsewhere({name.replace("_", " "): end for name, end in ends.items()}))


def _elsewhere(ends: dict[str, xr.DataArray]) -> str:
    """Say which columns are of another step than the last, since not every condition has that."""
    columns: dict[str, list[str]] = {}
    for name, end in ends.items():
        columns.setdefault(when(end), []).append(name)
    told = [f" {', '.join(names)}: at {step}." for step, names in columns.items() if step != LAST]
    return "".join(told)


def runs(results: xr.DataTree) -> tuple[Table, Table]:
    """Return what all runs share (key and value), and a row a run of what they differ in."""
    streams = {name: node.to_dataset() for name, node in results.children.items() if "run" in node.coords}
    labels = list(dict.fromkeys(str(run) for stream in streams.values() for run in stream["run"].values))
    coords = _coordinates(streams)
    coords = dict(sorted(coords.items(), key=lambda item: item[0] == "run_id"))  # the widest last
    # One run differs in nothing: it keeps its row.
    shared = {name: values[0] for name, values in coords.items() if len(set(values)) == 1 and len(labels) > 1}
    differing = {name: values for name, values in coords.items() if name not in shared}
    attrs = {"results made": results.attrs.get("created", ""), "versions": results.attrs.get("versions", "")}
    told = [(key, str(value)) for key, value in attrs.items() if value]
    common = Table(("what", "value"), (*told, ("runs", str(len(labels))), *shared.items()))
    each = tuple((run, *(differing[name][i] for name in differing)) for i, run in enumerate(labels))
    return common, Table(("run", *differing), each)


def _coordinates(streams: dict[str, xr.Dataset]) -> dict[str, list[str]]:
    """Return what the runs tell, run by run; what they tell of each stream otherwise, with its stream."""
    told: dict[str, dict[str, list[str]]] = {}
    for stream, dataset in streams.items():
        for name, coord in dataset.coords.items():
            if coord.dims == ("run",) and name != "run":
                told.setdefault(str(name), {})[stream] = [as_text(value) for value in coord.values]
    coords = {}
    for name, by_stream in told.items():
        alike = len(set(map(tuple, by_stream.values()))) == 1
        for stream, values in by_stream.items():
            coords[name if alike else f"{name} of {stream}"] = values
    return coords


def definitions(results: xr.DataTree) -> Table:
    """Return what each variable is: name, words, formula, source, version, and what it was measured on."""
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
        told = [str(attrs.get(key, "")) for key in ("formula", "source", "definition_version")]
        rows.append((name, words, *told, ", ".join(on)))
    return Table(("variable", "what", "formula", "source", "version", "measured on"), tuple(rows))
