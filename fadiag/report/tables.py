"""Build the folded tables of a report: what was left out, definitions, runs, recording and differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.figures import label
from fadiag.figures.words.sentences import number
from fadiag.report.differences import Difference
from fadiag.report.question import Question
from fadiag.results.left_out import LeftOut, left_out
from fadiag.results.null_values import is_companion
from fadiag.results.run_labels import as_text
from fadiag.results.variables import find_variable, streams_of

__all__ = ["Table", "compared", "definitions", "lost", "runs"]


@dataclass(frozen=True)
class Table:
    """A head, rows of text and a note."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def compared(found: Sequence[Difference], question: Question, shown: dict[str, str]) -> Table:
    """Return the differences from the baseline at the primary layer and of scalars, the primary one first."""
    here = [row for row in found if row.layer in (question.layer, "") and np.isfinite(row.difference)]
    here = sorted(here, key=lambda row: row.variable != question.metric)
    common = here[0].note if len({row.note for row in here}) == 1 else ""
    rows = tuple(
        (
            f"{label(row.treated)} − {label(row.baseline)}",
            shown.get(row.variable, row.variable.replace("_", " ")),
            *(number(value) for value in (row.baseline_mean, row.mean, row.difference)),
            f"{number(row.low)} to {number(row.high)}" if np.isfinite(row.low) else "—",
            number(row.p) if np.isfinite(row.p) else "—",
            str(row.runs),
            *(() if common else (row.note,)),
        )
        for row in here
    )
    head = ["contrast", "variable", "baseline", "condition", "difference", "95 % interval", "p", "n"]
    head += [] if common else ["note"]
    where = f"At layer {question.layer}. " if question.layer else ""
    designs = ", ".join(dict.fromkeys(row.design for row in here))
    note = f"{where}Design: {designs}. Each interval holds its 95 % alone. p is two-sided, of sign flips, "
    note += "jointly for all layers of a variable; it needs six pairs. The CSV file has all layers."
    return Table(tuple(head), rows, f"{note} Of all rows: {common}." if common else note)


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
    names = {str(name) for node in results.children.values() for name in node.data_vars}
    for name in sorted(names):
        at = None if is_companion(name) else find_variable(results, name, streams_of(results, [name]))
        if at is None:
            continue
        stream, attrs = at[0], at[1].attrs
        on = [stream]
        if "samples" in attrs:
            on.append(f"N = {attrs['samples']}")
        on += [f"{attrs[key]}" for key in ("split", "unfolding") if attrs.get(key)]
        on += [f"{attrs['probe_mode']} mode"] if attrs.get("probe_mode") else []
        cells = [str(attrs.get(key, "")) for key in ("formula", "source", "definition_version")]
        rows.append((name, str(attrs.get("long_name", "")), *cells, ", ".join(on)))
    return Table(("variable", "description", "formula", "source", "version", "measured on"), tuple(rows))
