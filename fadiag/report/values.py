"""Table of the values at the last step by layer and condition, with layers that are alike in groups."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from fadiag.figures import label
from fadiag.figures.words.sentences import LAST, not_compared, number, when
from fadiag.results import by_condition, final_values, mean_interval
from fadiag.results.intervals import cut_interval
from fadiag.results.null_values import AT_CEILING, is_companion
from fadiag.results.possible import possible_values
from fadiag.results.variables import find_variable, streams_of
from fadiag.results.without_value import runs_of

__all__ = ["Values", "shown_variables", "values"]

#: The variables of the table, and their heads.
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
#: Layers fold into a group while their means stay within this share of the column's largest value.
_ALIKE = 0.1
#: With fewer layers nothing folds.
_FEW_LAYERS = 9


@dataclass
class Values:
    """The numbers of the table, for the script of the page and for a CSV file.

    ``columns`` are (variable, head, step); ``cells`` has for each column the rows (layer, condition) as
    [mean, low, high, n, runs, at ceiling], or None. ``groups`` are the first and last place of like layers.
    """

    layers: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    columns: list[tuple[str, str, int]] = field(default_factory=list)
    cells: list[list[list[Any] | None]] = field(default_factory=list)
    groups: list[tuple[int, int]] = field(default_factory=list)
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the columns with layers as plain data, with three digits as captions have them."""
        start = self._scalars
        held = [i for i, column in enumerate(self.cells) if any(column[start:])]
        return {
            "layers": self.layers[start // max(1, len(self.conditions)) :],
            "conditions": [label(name) for name in self.conditions],
            "heads": [self.columns[i][1] for i in held],
            "cells": [[_short(cell) for cell in self.cells[i][start:]] for i in held],
            "groups": self.groups,
        }

    @property
    def _scalars(self) -> int:
        """The number of cells of the layer "", which come first."""
        return len(self.conditions) if "" in self.layers else 0

    def scalars(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the head and the rows of the table of scalars, by condition."""
        held = [i for i, column in enumerate(self.cells) if any(column[: self._scalars])]
        rows = [
            (label(name), *(_text(self.cells[i][place]) for i in held))
            for place, name in enumerate(self.conditions)
        ]
        return ("condition", *(self.columns[i][1] for i in held)), rows

    def csv(self) -> str:
        """Return the numbers with all their digits, one row for each variable, layer and condition."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("variable", "layer", "condition", "step", "mean", "low", "high", "n"))
        places = [(layer, name) for layer in self.layers for name in self.conditions]
        for (variable, _, step), column in zip(self.columns, self.cells, strict=True):
            for (layer, name), cell in zip(places, column, strict=True):
                if cell is not None:
                    ends = ["" if number is None else repr(number) for number in cell[:3]]
                    rows.writerow((variable, layer, label(name), step, *ends, cell[3]))
        return text.getvalue()


def _short(cell: list[Any] | None) -> list[Any] | None:
    """Return a cell with the digits that captions have."""
    if cell is None:
        return None
    ends = (None if x is None else float(f"{x:.0f}" if abs(x) >= 100 else f"{x:.3g}") for x in cell[:3])
    return [*ends, *cell[3:]]


def _text(cell: list[Any] | None) -> str:
    if cell is None:
        return "—"
    mean, low, high, n, runs, _ = cell
    seeds = f" ({n} of {runs} seeds)" if n < runs else " (one seed)" if n == 1 else ""
    seeds = seeds or (" (equal seeds)" if low is None else "")
    interval = f" [{number(low)}, {number(high)}]" if low is not None else ""
    return f"{number(mean)}{interval}{seeds}"


def shown_variables(results: xr.DataTree, primary: str) -> dict[str, str]:
    """Return the variables of the tables that the results hold, and their heads; the primary one is first."""
    names = {primary: _SHOWN.get(primary, primary.replace("_", " ")), **_SHOWN}
    held = {name: find_variable(results, name, streams_of(results, [name])) for name in names}
    return {
        name: names[name]
        for name, at in held.items()
        if at is not None and {"run", "step"} <= set(at[1].dims)
    }


def values(results: xr.DataTree, primary: str) -> Values:
    """Return the table of final values; scalars such as the accuracy have the layer ""."""
    streams = streams_of(results, tuple(_SHOWN))
    shown = shown_variables(results, primary)
    found = {name: find_variable(results, name, streams) for name in shown}
    scalars = [
        str(name)
        for node in results.children.values()
        for name, array in node.data_vars.items()
        if set(array.dims) == {"run", "step"} and not is_companion(name)
    ]
    made = Values()
    ends: dict[str, xr.DataArray] = {}
    marks: dict[str, xr.DataArray | None] = {}
    for name, at in found.items():
        if at is not None and "layer" in at[1].dims:
            ends[name] = final_values(by_condition(results, name, stream=at[0]))
            marks[name] = _at_ceiling(results, name, at[0], ends[name])
    for name in dict.fromkeys(scalars):
        ends[name], marks[name] = final_values(by_condition(results, name)), None
    made.conditions = list(dict.fromkeys(str(c) for end in ends.values() for c in end["condition"].values))
    made.layers = _layers(ends)
    for name, end in ends.items():
        made.columns.append((name, shown.get(name, name.replace("_", " ")), int(end["step"])))
        made.cells.append(_column(end, marks[name], made.layers, made.conditions))
    made.groups = _groups(made)
    made.note = _note(ends, streams, shown)
    return made


def _layers(ends: dict[str, xr.DataArray]) -> list[str]:
    """Return the layers that have any value, after "" for the scalars."""
    names: dict[str, None] = {}
    for end in ends.values():
        if "layer" not in end.dims:
            names[""] = None
    for end in ends.values():
        if "layer" in end.dims:
            known = (
                np.isfinite(end.transpose("layer", ...).values).reshape(end.sizes["layer"], -1).any(axis=1)
            )
            names |= dict.fromkeys(str(v) for v in end["layer"].values[known])
    return list(names)


def _at_ceiling(results: xr.DataTree, name: str, stream: str, end: xr.DataArray) -> xr.DataArray | None:
    """Return which final values of a rank are at their ceiling; None if none is at any step."""
    mark = f"{name}_{AT_CEILING}"
    if mark not in results[stream].data_vars or int(end["step"]) < 0:
        return None
    return by_condition(results, mark, stream=stream).sel(step=int(end["step"])).max("seed")


def _column(
    end: xr.DataArray, marks: xr.DataArray | None, layers: Sequence[str], conditions: Sequence[str]
) -> list[list[Any] | None]:
    over = cut_interval(mean_interval(end), *possible_values(end))
    held = [str(v) for v in end["layer"].values] if "layer" in end.dims else [""]
    place = {layer: i for i, layer in enumerate(held)}
    own = {str(name): i for i, name in enumerate(end["condition"].values)}
    runs = {name: len(runs_of(end, name)) for name in own}
    parts = [_square(part) for part in (over.mean, over.low, over.high, over.n)]
    reached = None if marks is None else _square(marks.reindex_like(over.mean))
    cells: list[list[Any] | None] = []
    for layer in layers:
        for name in conditions:
            at = (own[name], place[layer]) if layer in place and name in own else None
            if at is None or not parts[3][at]:
                cells.append(None)
                continue
            numbers = [None if np.isnan(part[at]) else float(part[at]) for part in parts[:3]]
            ceiling = int(reached is not None and reached[at] == 1)
            cells.append([*numbers, int(parts[3][at]), runs[name], ceiling])
    return cells


def _square(array: xr.DataArray) -> Any:
    """Return values as (condition, layer); a scalar has one layer."""
    if "layer" not in array.dims:
        return array.values[:, None]
    return array.transpose("condition", "layer").values


def _groups(made: Values) -> list[tuple[int, int]]:
    """Return the first and last place of neighbors that are alike: the same cells known, in a small range.

    Places are among the layers without "".
    """
    count, width = len([layer for layer in made.layers if layer]), len(made.conditions)
    if count < _FEW_LAYERS:
        return [(i, i) for i in range(count)]
    table = np.array(
        [
            [np.nan if c is None else c[0] for c in column[len(column) - count * width :]]
            for column in made.cells
        ],
        np.float64,
    ).reshape(len(made.columns), count, width)
    known = np.isfinite(table)
    scale = _ALIKE * np.where(known, abs(table), 0).max(axis=(1, 2))[:, None]
    groups = [(0, 0)]
    for i in range(1, count):
        first = groups[-1][0]
        window = table[:, first : i + 1]
        span = np.ptp(np.where(np.isfinite(window), window, 0), axis=1)
        alike = (known[:, i] == known[:, first]).all() and (span <= scale).all()
        if alike:
            groups[-1] = (first, i)
        else:
            groups.append((i, i))
    return groups


def _is_last(step: str) -> bool:
    """Return whether the words of a step say no more than that it is the last one."""
    return re.fullmatch(rf"{LAST}( \(\d+\))?", step) is not None


def _note(ends: dict[str, xr.DataArray], streams: Sequence[str], shown: dict[str, str]) -> str:
    steps: dict[str, list[str]] = {}
    for name, end in ends.items():
        steps.setdefault(when(end), []).append(shown.get(name, name.replace("_", " ")))
    other = "".join(f" {', '.join(names)}: at {step}." for step, names in steps.items() if not _is_last(step))
    note = f"Mean over seeds [95 % t interval] at the last recorded step{', unless stated' * bool(other)}. "
    note += "Intervals end at what is possible; equal seeds and one seed have none. "
    note += f"PR: participation ratio.{other} †: a run is at its ceiling, within 1 % of min(N, n)."
    if "error_overlap" in ends and "k" in (attrs := ends["error_overlap"].attrs):
        guess = f", {attrs['k_source']}" if "k_source" in attrs else ""
        note += (
            f" Overlaps compare k = {attrs['k']} directions{guess}, or all directions of a layer with fewer."
        )
    apart = dict.fromkeys(
        why for end in ends.values() if (why := not_compared(end, map(str, end["condition"].values)))
    )
    note += "".join(f" Conditions are {why}." for why in apart)
    if len(streams) > 1:
        note += f" Measured on the stream '{streams[0]}', not on {', '.join(streams[1:])}."
    return note
