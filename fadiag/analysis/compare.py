"""Compare the final values of two sets of runs, with intervals over runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fadiag import spectra
from fadiag.analysis.design import Design, design_of
from fadiag.analysis.rounding import ROUNDING, without_noise, without_rounding
from fadiag.errors import InputError
from fadiag.results import select
from fadiag.results.final_values import BothSides, Floats, final_values_of_both
from fadiag.results.io import require_results
from fadiag.results.null_values import is_companion
from fadiag.results.possible import is_rank
from fadiag.results.provenance import recordings
from fadiag.results.run_labels import conditions_of
from fadiag.results.variables import SPECTRUM_STEP
from fadiag.spectra.statistics.sign_flip import FEWEST as FEWEST_PAIRS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]

_NAN = float("nan")
_Values = dict[str, tuple[Floats, Floats]]


def compare(
    a: xr.DataTree,
    b: xr.DataTree | None = None,
    *,
    level: float = 0.95,
    conditions: tuple[str, str] | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> "pd.DataFrame":
    """Compare the final values of two sets of runs, metric by metric and layer by layer.

    The unit is the run: each run gives one number, at the last step at which both sides have a value. A run
    without a value there is left out and named, and the row does not count as different. The missing value
    may itself be an effect, as in a run that diverged. A variable or layer without any value on one side is
    not compared. The interval of the difference follows the design:

    - ``paired``, both sets have runs of the same seeds: Student's t of the differences;
    - ``crossed``, each seed with each feedback seed (coordinates ``seed``, ``feedback_seed``): two-way random
      effects of the differences;
    - ``unpaired``: Welch's t;
    - ``broken``, runs of one side share some of their seeds and are not crossed: no interval.

    Differences and ends of intervals below the float32 rounding of a layer's largest value count as zero. So
    do cosines, overlaps and angles below the rounding of their unit, and differences of these.
    Equal differences show no variation, so they have no interval. A run whose layer is dead, with rank 0, is
    left out like one without a value.

    The level holds for each interval alone. At 0.95, one in twenty rows without a difference will seem to
    differ. The p-value holds for all layers of a variable together (max-T sign flips over the pairs), and
    needs six pairs. A number that cannot be computed is NaN, and ``note`` says why.

    Parameters
    ----------
    a, b : DataTree
        Results of `fadiag.analysis.analyze`. Without ``b``, two conditions of ``a`` are compared.
    level : float
        Confidence level of the intervals.
    conditions : (str, str), optional
        The conditions of ``a`` and ``b`` to compare, if the results hold several. Runs without a condition
        have the condition ``(no condition)``.
    names : (str, str)
        What the notes call ``a`` and ``b``.

    Returns
    -------
    pandas.DataFrame
        Columns stream, variable, layer, runs (pairs if paired, else the smaller number), design, a, b
        (means), difference (b - a), low, high, differs, p, note. If the number of samples or the definition
        of a variable differs, it has one row without numbers and without a design.

    Raises
    ------
    InputError
        There is neither ``b`` nor conditions, a level outside (0, 1), or an unknown condition. Or the sides
        have nothing in common, different unfoldings or subspace dimensions k. Or one side has several
        conditions, or the same recording twice.

    Examples
    --------
    >>> def results(losses):
    ...     runs = {"run": ["r0", "r1", "r2"], "seed": ("run", [0, 1, 2]), "step": [100]}
    ...     log = xr.Dataset({"loss": (("run", "step"), np.array(losses)[:, None])}, runs)
    ...     return xr.DataTree.from_dict({"/log": log})
    >>> found = compare(results([1.0, 2.0, 4.0]), results([1.5, 2.4, 4.7]))
    >>> found[["variable", "runs", "design", "differs"]].to_string(index=False).split()
    ['variable', 'runs', 'design', 'differs', 'loss', '3', 'paired', 'True']
    """
    import pandas as pd

    if not 0 < level < 1:
        raise InputError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    if b is None and conditions is None:
        raise InputError("there is one result; give b, or conditions=(A, B) to compare two conditions of a")
    require_results(a)
    b = a if b is None else b
    require_results(b)
    for name in ("unfolding", "k"):
        if a.attrs.get(name) != b.attrs.get(name):
            raise InputError(
                f"{name} differs ({a.attrs.get(name)!r} and {b.attrs.get(name)!r}), so the "
                "numbers cannot be compared; analyze both with the same one"
            )
    first, second = conditions or (None, None)
    sides = _streams(a, "" if a is b else "a", first), _streams(b, "" if a is b else "b", second)
    rows = [
        {"stream": stream, "variable": name, **row}
        for stream in sides[0]
        if stream in sides[1]
        for name, row in _stream_rows(sides[0][stream], sides[1][stream], level, names)
    ]
    if not any(row["design"] for row in rows):
        why = "".join(f"; {row['variable']}: {row['note']}" for row in rows[:1])
        raise InputError(f"the two results have no metric of a layer in common{why}")
    return pd.DataFrame(rows)


def _streams(results: xr.DataTree, side: str, condition: str | None) -> dict[str, xr.Dataset]:
    """Return the streams of one side, with the runs of one condition and the variables that they have."""
    try:
        chosen = select(results, condition=condition)
    except InputError as cause:
        raise InputError(f"{side}: {cause}" if side else str(cause)) from None
    side = side or "a"
    streams = {}
    for name, node in chosen.children.items():
        stream = node.to_dataset()
        held = list(dict.fromkeys(conditions_of(stream)))
        if len(held) > 1:
            raise InputError(
                f"{side} holds runs of several conditions ({', '.join(held)}), which have no mean in common; "
                "name the condition of a and that of b: conditions=(A, B), --conditions A B"
            )
        _refuse_twice(stream, side)
        streams[name] = _own(stream)
    return streams


def _refuse_twice(stream: xr.Dataset, side: str) -> None:
    """Raise InputError if a recording occurs twice: a copy is not a second run."""
    found: dict[tuple[str, int], str] = {}
    for key, run in zip(recordings(stream), map(str, stream["run"].values), strict=True):
        first = found.setdefault(key, run)
        if key[0] and first is not run:
            raise InputError(
                f"{side} holds one recording twice (run id {key[0]}), as {first} and as {run}, which is "
                "one run; analyze again with each store named once"
            )


def _own(stream: xr.Dataset) -> xr.Dataset:
    """Drop the nulls, the spectra, and the variables and layers without a value in these runs."""
    spectra = [name for name, array in stream.data_vars.items() if SPECTRUM_STEP in array.dims]
    nulls = [name for name in stream.data_vars if is_companion(name)]
    stream = stream.drop_vars([*nulls, *spectra]).load()
    unknown = [name for name, array in stream.data_vars.items() if not np.isfinite(array.values).any()]
    held = stream.drop_vars(unknown)
    return held.dropna("layer", how="all") if "layer" in held.dims else held


def _stream_rows(
    a: xr.Dataset, b: xr.Dataset, level: float, sides: tuple[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    """Return each variable that both sides have, with its rows."""
    design = design_of(a, b, sides)
    runs = [[str(run) for run in side["run"].values] for side in (a, b)]
    common = sorted(set(map(str, a.data_vars)) & set(map(str, b.data_vars)))
    finals = ((name, final_values_of_both(a[name], b[name], sides)) for name in common)
    return [
        (name, row)
        for name, values in finals
        for row in _rows(without_noise(values, name), runs, design, level, sides, zero_is_dead=is_rank(name))
    ]


def _rows(
    finals: BothSides,
    runs: Sequence[Sequence[str]],
    design: Design,
    level: float,
    sides: tuple[str, str],
    *,
    zero_is_dead: bool,
) -> list[dict[str, Any]]:
    """Return one row per layer, or a single row without numbers if nothing can be compared."""
    if not finals.layers:
        numbers = dict.fromkeys(("a", "b", "difference", "low", "high"), _NAN)
        return [
            {"layer": "", "runs": 0, "design": "", **numbers}
            | {"differs": False, "p": _NAN, "note": finals.note}
        ]
    values = {layer: (x[design.at_a], y[design.at_b]) for layer, (x, y) in finals.layers.items()}
    dead = {layer: [zero_is_dead & (side == 0) for side in both] for layer, both in values.items()}
    values = {
        layer: (np.where(dead[layer][0], _NAN, x), np.where(dead[layer][1], _NAN, y))
        for layer, (x, y) in values.items()
    }
    p, notes = _layers_together(values, design)
    rows = []
    for layer, (x, y) in values.items():
        a, b = x[~np.isnan(x)], y[~np.isnan(y)]
        if design.kind in ("paired", "crossed"):
            both = ~(np.isnan(x) | np.isnan(y))
            a, b = x[both], y[both]
        low, high, reason = _interval(a, b, design, level)
        absent = [
            f"{len(gone)} of {len(side)} runs of {name} left out, {why} at step {finals.step} "
            f"({', '.join(labels[at[i]] for i in gone)})"
            for name, side, zero, labels, at in zip(
                sides, (x, y), dead[layer], runs, (design.at_a, design.at_b), strict=True
            )
            for why, mask in (("without a number", np.isnan(side) & ~zero), ("dead", zero))
            if len(gone := np.flatnonzero(mask))
        ]
        mean_a, mean_b = (float(v.mean()) if len(v) else _NAN for v in (a, b))
        difference, low, high = without_rounding(np.array([mean_b - mean_a, low, high]), x, y).tolist()
        rows.append(
            {
                "layer": layer,
                "runs": min(len(a), len(b)),
                "design": design.kind,
                "a": mean_a,
                "b": mean_b,
                "difference": difference,
                "low": low,
                "high": high,
                "differs": (low > 0 or high < 0) and not absent,  # False without an interval
                "p": p.get(layer, _NAN),
                "note": "; ".join(
                    filter(None, [reason, notes.get(layer, ""), *absent, design.left_out, finals.note])
                ),
            }
        )
    return rows


def _interval(a: Floats, b: Floats, design: Design, level: float) -> tuple[float, float, str]:
    """Return the ends of the interval of mean(b) - mean(a); if there is none, NaN and the reason."""
    runs = min(len(a), len(b))
    if runs < 2:
        return _NAN, _NAN, f"no interval: {runs} run{'s' * (runs != 1)} with a value, it needs two"
    if design.kind == "broken":
        return _NAN, _NAN, f"no interval: {design.reason}"
    found: spectra.Interval | spectra.CrossedInterval
    if design.kind == "unpaired":
        found = spectra.welch_interval(b, a, level)
    elif design.grid is None:
        found = spectra.paired_t_interval(b, a, level)
    elif runs < len(design.grid):
        cells = f"{runs} of {len(design.grid)} cells of the crossed design"
        return _NAN, _NAN, f"no interval: {cells} have a value"
    else:
        grid = np.empty(design.grid.max(axis=0) + 1)
        grid[tuple(design.grid.T)] = b - a
        found = spectra.crossed_interval(grid, level)
    low, high = float(found.low), float(found.high)
    if high - low <= ROUNDING * max(abs(a).max(), abs(b).max()):
        what = "runs of each side" if design.kind == "unpaired" else "differences"
        return _NAN, _NAN, f"no interval: the {what} have equal values"
    return low, high, ""


def _layers_together(values: _Values, design: Design) -> tuple[dict[str, float], dict[str, str]]:
    """Return the family-wise p-value of each layer, and the reason for each layer without one."""
    refusals = {
        "unpaired": "no p: runs do not pair by seed",
        "crossed": "no p: runs of a crossed design share seeds",
        "broken": "no p: runs share seeds",
    }
    if design.kind in refusals:
        return {}, dict.fromkeys(values, refusals[design.kind])
    differences = {layer: without_rounding(y - x, x, y) for layer, (x, y) in values.items()}
    whole = {layer: d for layer, d in differences.items() if not np.isnan(d).any()}
    notes = dict.fromkeys(differences.keys() - whole.keys(), "no p: not every pair has a value")
    pairs = len(design.at_a)
    if pairs < FEWEST_PAIRS:
        return {}, notes | dict.fromkeys(whole, f"no p: {pairs} pairs, sign flips need {FEWEST_PAIRS}")
    if not whole:
        return {}, notes
    joint = spectra.max_t_sign_flip(np.column_stack(list(whole.values())), np.random.default_rng(0))
    return dict(zip(whole, map(float, joint.p), strict=True)), notes
