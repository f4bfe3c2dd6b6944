"""Two sets of runs beside each other: which metrics differ beyond their intervals."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.design import Design, design_of
from fadiag.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]

_NULLS = ("_null_low", "_null_high", "_null_mean", "_null_p", "_null_draws")
#: Below six pairs no sign flip can give a p-value of 0.05.
_FEWEST_PAIRS = 6
_Floats = NDArray[np.float64]


def compare(a: xr.DataTree, b: xr.DataTree, *, level: float = 0.95) -> "pd.DataFrame":
    """Compare the final values of two sets of runs, metric by metric and layer by layer.

    The run is the unit: one number a run, its last. The interval of the difference is that of its design:

    - ``paired``, both sets have runs of the same seeds: Student's t of the differences;
    - ``crossed``, each seed with each feedback seed (coordinates ``seed``, ``feedback_seed``): two-way random
      effects of the differences;
    - ``unpaired``: Welch's.

    Intervals are one by one: of many rows that do not differ, one in twenty will seem to at level 0.95. The
    p-value is that of all layers of a variable together (max-T sign flips over the pairs), and needs six
    pairs. What cannot be given is NaN, and ``note`` says why.

    Parameters
    ----------
    a, b : DataTree
        Results of `fadiag.analysis.analyze`.
    level : float
        Confidence level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns stream, variable, layer, runs (pairs where paired, else the smaller number), design, a, b
        (means), difference (b - a), low, high, differs, p, note.

    Raises
    ------
    InputError
        A level outside (0, 1), different unfoldings, or nothing in common.
    """
    import pandas as pd

    if not 0 < level < 1:
        raise InputError(f"level is {level}; give a number between 0 and 1, such as 0.95")
    if a.attrs.get("unfolding") != b.attrs.get("unfolding"):
        raise InputError(
            f"the unfoldings differ ({a.attrs.get('unfolding')!r} and {b.attrs.get('unfolding')!r}), so the "
            "numbers cannot be compared; analyse both with the same one"
        )
    rows = [
        {"stream": stream, "variable": variable, **row}
        for stream in a.children
        if stream in b.children
        for variable, finals in _finals(a[stream].dataset, b[stream].dataset)
        for row in _rows(finals, design_of(a[stream].dataset, b[stream].dataset), level)
    ]
    if not rows:
        raise InputError("the two results have no metric of a layer in common")
    return pd.DataFrame(rows)


#: Layer -> the last value of each run of either side.
_Finals = dict[str, tuple[_Floats, _Floats]]


def _finals(a: xr.Dataset, b: xr.Dataset) -> Iterator[tuple[str, _Finals]]:
    """Yield each variable that both results have, with its last values."""
    for variable in sorted(set(map(str, a.data_vars)) & set(map(str, b.data_vars))):
        x, y = a[variable], b[variable]
        if variable.endswith(_NULLS) or x.attrs.get("definition_version") != y.attrs.get(
            "definition_version"
        ):
            continue
        if x.attrs.get("samples") != y.attrs.get("samples"):
            continue  # a rank of N samples is never compared with one of another N
        if "layer" not in x.dims:
            yield variable, {"": (_last(x.values), _last(y.values))}
            continue
        common = [layer for layer in x["layer"].values if layer in y["layer"].values]
        sides = [{str(n): _last(side.sel(layer=n).values) for n in common} for side in (x, y)]
        yield variable, {name: (sides[0][name], sides[1][name]) for name in sides[0]}


def _last(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last number of each run (run, step); NaN for a run without one."""
    out = np.full(len(values), np.nan)
    for i, row in enumerate(values):
        known = row[~np.isnan(row)]
        if known.size:
            out[i] = known[-1]
    return out


def _rows(finals: _Finals, design: Design, level: float) -> list[dict[str, Any]]:
    """Return one row a layer."""
    values = {layer: (x[design.at_a], y[design.at_b]) for layer, (x, y) in finals.items()}
    p, notes = _layers_together(values, design)
    rows = []
    for layer, (x, y) in values.items():
        a, b = x[~np.isnan(x)], y[~np.isnan(y)]
        if design.kind in ("paired", "crossed"):
            both = ~(np.isnan(x) | np.isnan(y))
            a, b = x[both], y[both]
        half, reason = _half(a, b, design, level)
        mean_a, mean_b = (float(v.mean()) if len(v) else float("nan") for v in (a, b))
        difference = mean_b - mean_a
        rows.append(
            {
                "layer": layer,
                "runs": min(len(a), len(b)),
                "design": design.kind,
                "a": mean_a,
                "b": mean_b,
                "difference": difference,
                "low": difference - half,
                "high": difference + half,
                "differs": bool(abs(difference) > half),  # False where there is no interval
                "p": p.get(layer, float("nan")),
                "note": "; ".join(filter(None, [reason, notes.get(layer, "")])),
            }
        )
    return rows


def _half(a: _Floats, b: _Floats, design: Design, level: float) -> tuple[float, str]:
    """Return half the width of the interval of mean(b) - mean(a), or NaN and the reason."""
    runs = min(len(a), len(b))
    if runs < 2:
        return float("nan"), f"no interval: {runs} run{'s' * (runs != 1)} with a value, it needs two"
    if design.kind == "broken":
        return float("nan"), f"no interval: {design.reason}"
    if design.kind == "unpaired":
        return _welch_half(a, b, level), ""
    if design.grid is None:
        return _paired_half(b - a, level), ""
    if runs < len(design.grid):
        return float(
            "nan"
        ), f"no interval: {runs} of {len(design.grid)} cells of the crossed design have a value"
    cells = np.empty(design.grid.max(axis=0) + 1)
    cells[tuple(design.grid.T)] = b - a
    found = spectra.crossed_interval(cells, level)
    return found.high - found.mean, ""


def _layers_together(
    values: dict[str, tuple[_Floats, _Floats]], design: Design
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the family-wise p-value of each layer, and why others have none."""
    refusals = {
        "unpaired": "no p: runs do not pair by seed",
        "crossed": "no p: runs of a crossed design share seeds",
        "broken": "no p: runs share seeds",
    }
    if design.kind in refusals:
        return {}, dict.fromkeys(values, refusals[design.kind])
    differences = {layer: y - x for layer, (x, y) in values.items()}
    whole = {layer: d for layer, d in differences.items() if not np.isnan(d).any()}
    notes = dict.fromkeys(differences.keys() - whole.keys(), "no p: not every pair has a value")
    pairs = len(design.at_a)
    if pairs < _FEWEST_PAIRS:
        return {}, notes | dict.fromkeys(whole, f"no p: {pairs} pairs, sign flips need {_FEWEST_PAIRS}")
    if not whole:
        return {}, notes
    joint = spectra.max_t_sign_flip(np.column_stack(list(whole.values())), np.random.default_rng(0))
    return dict(zip(whole, map(float, joint.p), strict=True)), notes


def _paired_half(differences: NDArray[np.float64], level: float) -> float:
    n = len(differences)
    return float(spectra.t_quantile(level, n - 1) * differences.std(ddof=1) / np.sqrt(n))


def _welch_half(a: NDArray[np.float64], b: NDArray[np.float64], level: float) -> float:
    u, v = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if u + v == 0:
        return 0.0
    freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    return float(spectra.t_quantile(level, freedom) * np.sqrt(u + v))
