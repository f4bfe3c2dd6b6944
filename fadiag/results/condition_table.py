"""ConditionTable has the numbers of a paper: conditions as rows, metrics at one layer and accuracies."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from fadiag.errors import InputError
from fadiag.results.by_condition import by_condition
from fadiag.results.final_values import final_values
from fadiag.results.intervals import cut_interval, mean_interval
from fadiag.results.latex import latex_text
from fadiag.results.layers import matching_layers, primary_layer
from fadiag.results.possible import possible_values
from fadiag.results.run_labels import entries_of
from fadiag.results.select import select
from fadiag.results.variables import find_variable, missing_variables, streams_of
from fadiag.results.without_value import named, runs_of, runs_without_value

__all__ = ["Cell", "ConditionTable", "condition_table"]

#: The metrics of a table that names none, after the primary one of the runs.
_USUAL = ("error_effective_rank_raw", "error_participation_ratio_raw")
_ACCURACIES = ("test_accuracy", "validation_accuracy")


@dataclass(frozen=True)
class Cell:
    """The mean over ``n`` of ``runs`` runs and the ends of its 95 % t interval, NaN if there is none.

    Examples
    --------
    >>> Cell(1.5, math.nan, math.nan, 1, 3).n
    1
    """

    mean: float
    low: float
    high: float
    n: int
    runs: int


@dataclass(frozen=True)
class ConditionTable:
    """A cell for each condition and variable, at the last step that all conditions share.

    Parameters
    ----------
    conditions, variables : tuple of str
        The rows and the columns.
    cells : mapping
        The cells by condition and variable. One without a run is absent.
    layers : mapping
        The layer of each variable; "" if it has none.
    steps : mapping
        The step of each variable's values.
    notes : tuple of str
        What a reader has to know, such as runs without a value.

    Examples
    --------
    >>> cells = {("bp", "test_accuracy"): Cell(0.9, 0.8, 1, 3, 3)}
    >>> steps, layers = {"test_accuracy": 100}, {"test_accuracy": ""}
    >>> table = ConditionTable(("bp",), ("test_accuracy",), cells, layers, steps, ())
    >>> table.head(), table.rows()
    (('condition', 'test accuracy (%)'), [('bp', '90.0 [80.0, 100.0]')])
    """

    conditions: tuple[str, ...]
    variables: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    layers: dict[str, str]
    steps: dict[str, int]
    notes: tuple[str, ...]

    def head(self) -> tuple[str, ...]:
        """Return the heads of the columns."""
        return ("condition", *(f"{_words(name)}{' (%)' * _in_percent(name)}" for name in self.variables))

    def rows(self) -> list[tuple[str, ...]]:
        """Return the texts of the rows, with three digits."""
        return [
            (condition, *(_text(self.cells.get((condition, name)), name) for name in self.variables))
            for condition in self.conditions
        ]

    def caption(self) -> str:
        """Return where the numbers are from, and what a reader has to know."""
        layers = [layer for layer in dict.fromkeys(self.layers.values()) if layer]
        at = f", layer {layers[0]}" if layers else ""
        each = ", ".join(f"{_words(name)} at step {step}" for name, step in self.steps.items())
        steps = set(self.steps.values())
        when = f" at step {min(steps)}" if len(steps) == 1 else f" ({each})"
        counts = sorted({cell.n for cell in self.cells.values() if cell.n})
        seeds = " to ".join(str(n) for n in dict.fromkeys(counts[:1] + counts[-1:]))
        words = f"Mean [95 % t interval] over {seeds or 'no'} seed{'' if seeds == '1' else 's'}{when}{at}."
        return " ".join((words, *(f"{note[:1].upper()}{note[1:]}." for note in self.notes)))

    def latex(self) -> str:
        r"""Return a tabular for a paper, with the rules of booktabs, and its caption as a comment."""
        head, rows = (latex_text(_printable(name)) for name in self.head()), []
        for condition, *numbers in self.rows():
            rows.append((latex_text(_printable(condition)), *(text.replace("-", "$-$") for text in numbers)))
        return "\n".join(
            (
                f"% {_printable(self.caption())}",
                r"% Needs \usepackage{booktabs}.",
                rf"\begin{{tabular}}{{{'l' * (1 + len(self.variables))}}}",
                r"\toprule",
                " & ".join(head) + r" \\",
                r"\midrule",
                *(" & ".join(row) + r" \\" for row in rows),
                r"\bottomrule",
                r"\end{tabular}",
                "",
            )
        )

    def csv(self) -> str:
        """Return the numbers with all their digits, one row for each condition and variable."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("condition", "variable", "layer", "step", "mean", "low", "high", "n", "runs"))
        for condition in self.conditions:
            for name in self.variables:
                if (cell := self.cells.get((condition, name))) is not None:
                    ends = ["" if math.isnan(x) else repr(x) for x in (cell.mean, cell.low, cell.high)]
                    rows.writerow(
                        (condition, name, self.layers[name], self.steps[name], *ends, cell.n, cell.runs)
                    )
        return text.getvalue()


def condition_table(
    results: xr.DataTree,
    metrics: Sequence[str] | None = None,
    *,
    layer: str | None = None,
    conditions: Sequence[str] = (),
) -> ConditionTable:
    """Return the means and 95 % t intervals over seeds of all conditions, as a paper's table has them.

    Values are those of the last step at which every condition has one. Intervals are cut to the values that a
    variable can take. The accuracies on the test or validation data are always there.

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`.
    metrics : sequence of str, optional
        The variables; by default the runs' primary metric, the effective rank and the participation ratio.
    layer : str, optional
        The layer, by its name or a pattern that matches one layer. By default the primary one.
    conditions : sequence of str
        The rows, in this order; by default all conditions, baselines first.

    Returns
    -------
    ConditionTable

    Raises
    ------
    MissingSignalError
        The results lack a metric.
    InputError
        There is no such layer or condition, the pattern matches several layers, a variable has other axes, or
        two runs have the same condition and seed.

    Examples
    --------
    >>> runs = {"run": ["a", "b"], "condition": ("run", ["fa", "fa"]), "seed": ("run", [0, 1]), "step": [9]}
    >>> log = xr.Dataset({"test_accuracy": (("run", "step"), [[0.5], [0.7]])}, runs)
    >>> condition_table(xr.DataTree.from_dict({"/log": log})).rows()
    [('fa', '60.0 [0.0, 100.0]')]
    """
    if conditions:
        results = select(results, condition=list(conditions))
    names = _variables(results, metrics)
    ends = {name: _end(results, name) for name in names}
    wanted = layer or primary_layer(results)
    layers = {name: _layer(end, wanted) for name, end in ends.items()}
    ends |= {name: ends[name].sel(layer=place) for name, place in layers.items() if place}
    cells: dict[tuple[str, str], Cell] = {}
    notes: dict[str, None] = {}
    for name, end in ends.items():
        found = cut_interval(mean_interval(end), *possible_values(end))
        for i, condition in enumerate(map(str, end["condition"].values)):
            mean, low, high = (float(part.values[i]) for part in (found.mean, found.low, found.high))
            cells[condition, name] = Cell(
                mean, low, high, int(found.n.values[i]), len(runs_of(end, condition))
            )
        if gone := runs_without_value(end):
            notes[f"{named(gone)} no {_words(name)} at step {int(end['step'])}"] = None
        samples = {count for of in end.attrs.get("samples_of", {}).values() for count in of}
        if len(samples) > 1:
            numbers = ", ".join(sorted(samples))
            notes[f"conditions are not to be compared in the {_words(name)}: they have {numbers} samples"] = (
                None
            )
    rows = dict.fromkeys(conditions or (condition for condition, _ in cells))
    steps = {name: int(end["step"]) for name, end in ends.items()}
    return ConditionTable(tuple(rows), tuple(names), cells, layers, steps, tuple(notes))


def _variables(results: xr.DataTree, metrics: Sequence[str] | None) -> list[str]:
    """Return the variables of a table: the metrics, then the accuracies."""
    held = {str(name) for node in results.children.values() for name in node.data_vars}
    if metrics is None:
        declared = entries_of(results, "primary_metric")
        metrics = [name for name in (*declared, *_USUAL) if name in held]
    accuracies = [name for name in _ACCURACIES if name in held]
    names = list(dict.fromkeys((*(name for name in metrics if name not in accuracies), *accuracies)))
    if not names:
        raise missing_variables(results, [*_USUAL, *_ACCURACIES], None)
    return names


def _end(results: xr.DataTree, name: str) -> xr.DataArray:
    found = find_variable(results, name, streams_of(results, [name]))
    if found is None:
        raise missing_variables(results, [name], None)
    if not set(found[1].dims) <= {"run", "layer", "step"} or "step" not in found[1].dims:
        raise InputError(f"{name} has the axes {', '.join(map(str, found[1].dims))}, so it fits no table")
    return final_values(by_condition(results, name, stream=found[0]))


def _layer(end: xr.DataArray, wanted: str) -> str:
    """Return the one layer of a variable in the table; "" if it has no layers."""
    if "layer" not in end.dims:
        return ""
    found = matching_layers(map(str, end["layer"].values), wanted)
    if len(found) > 1:
        raise InputError(f"{wanted!r} matches {', '.join(found)}; a table is of one layer, so name it")
    return found[0]


def _in_percent(name: str) -> bool:
    return name.endswith("_accuracy")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float, name: str) -> str:
    """Return a number with three significant digits, and an accuracy in per cent.

    >>> _number(-0.01234, ""), _number(186.4, ""), _number(0.9712, "test_accuracy")
    ('-0.0123', '186', '97.1')
    """
    if _in_percent(name):
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _text(cell: Cell | None, name: str) -> str:
    if cell is None or not cell.n:
        return "-"
    mean, low, high = (_number(x, name) for x in (cell.mean, cell.low, cell.high))
    interval = "" if math.isnan(cell.low) else f" [{low}, {high}]"
    few = f" ({cell.n} of {cell.runs} seeds)" if cell.n < cell.runs else ""
    return f"{mean}{interval}{few}"


def _printable(text: str) -> str:
    """Return a text on one line, without control characters, which LaTeX refuses."""
    return "".join(c if c.isprintable() else " " for c in text)
