"""Two sets of runs beside each other: which metrics differ beyond their intervals."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare"]

_NULLS = ("_null_low", "_null_high", "_null_mean", "_null_p")


def compare(a: xr.DataTree, b: xr.DataTree, *, level: float = 0.95) -> "pd.DataFrame":
    """Compare the final values of two sets of runs, metric by metric and layer by layer.

    The run is the unit: one number a run, its last. Where both sets have runs of the same seeds the interval
    is that of the paired differences (Student's t), otherwise Welch's. With fewer than two runs a side there
    is no interval, and nothing is said to differ. Intervals are one by one: of many rows that do not differ,
    one in twenty will seem to at level 0.95.

    Parameters
    ----------
    a, b : DataTree
        Results of `fadiag.analysis.analyze`.
    level : float
        Confidence level of the intervals.

    Returns
    -------
    pandas.DataFrame
        Columns stream, variable, layer, runs (pairs where paired, else the smaller number), paired, a, b
        (means), difference (b - a), low, high, differs.

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
        {"stream": stream, "variable": variable, "layer": layer, **_row(finals_a, finals_b, pairs, level)}
        for stream in a.children
        if stream in b.children
        for variable, layer, finals_a, finals_b, pairs in _finals(a[stream].dataset, b[stream].dataset)
    ]
    if not rows:
        raise InputError("the two results have no metric of a layer in common")
    return pd.DataFrame(rows)


_Pairs = tuple[NDArray[np.intp], NDArray[np.intp]] | None


def _finals(
    a: xr.Dataset, b: xr.Dataset
) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64], _Pairs]]:
    """Yield variable, layer, and the last value of each run, for all that both results have."""
    pairs = _pairs(a, b)
    for variable in sorted(set(map(str, a.data_vars)) & set(map(str, b.data_vars))):
        x, y = a[variable], b[variable]
        if variable.endswith(_NULLS) or x.attrs.get("definition_version") != y.attrs.get(
            "definition_version"
        ):
            continue
        if x.attrs.get("samples") != y.attrs.get("samples"):
            continue  # a rank of N samples is never compared with one of another N
        if "layer" not in x.dims:
            yield variable, "", _last(x.values), _last(y.values), pairs
            continue
        for layer in x["layer"].values:
            if layer in y["layer"].values:
                finals = [_last(side.sel(layer=layer).values) for side in (x, y)]
                yield variable, str(layer), finals[0], finals[1], pairs


def _last(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last number of each run (run, step); NaN for a run without one."""
    out = np.full(len(values), np.nan)
    for i, row in enumerate(values):
        known = row[~np.isnan(row)]
        if known.size:
            out[i] = known[-1]
    return out


def _pairs(a: xr.Dataset, b: xr.Dataset) -> _Pairs:
    """Return the positions of runs of equal seed; None for a seed twice on a side or fewer than two."""
    if "seed" not in a.coords or "seed" not in b.coords:
        return None
    seeds_a, seeds_b = a["seed"].values, b["seed"].values
    if len(set(seeds_a.tolist())) < len(seeds_a) or len(set(seeds_b.tolist())) < len(seeds_b):
        return None
    _, at_a, at_b = np.intersect1d(seeds_a, seeds_b, return_indices=True)
    return (at_a, at_b) if len(at_a) >= 2 else None


def _row(
    a: NDArray[np.float64], b: NDArray[np.float64], pairs: _Pairs, level: float
) -> dict[str, float | int | bool]:
    if pairs is not None:
        a, b = a[pairs[0]], b[pairs[1]]
        both = ~(np.isnan(a) | np.isnan(b))
        a, b = a[both], b[both]
    else:
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    runs = min(len(a), len(b))
    mean_a, mean_b = (float(x.mean()) if len(x) else float("nan") for x in (a, b))
    half = float("nan")
    if runs >= 2:
        half = _paired_half(b - a, level) if pairs is not None else _welch_half(a, b, level)
    difference = mean_b - mean_a
    return {
        "runs": runs,
        "paired": pairs is not None,
        "a": mean_a,
        "b": mean_b,
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "differs": bool(abs(difference) > half),  # False where there is no interval
    }


def _paired_half(differences: NDArray[np.float64], level: float) -> float:
    n = len(differences)
    return float(spectra.t_quantile(level, n - 1) * differences.std(ddof=1) / np.sqrt(n))


def _welch_half(a: NDArray[np.float64], b: NDArray[np.float64], level: float) -> float:
    u, v = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if u + v == 0:
        return 0.0
    freedom = (u + v) ** 2 / (u**2 / (len(a) - 1) + v**2 / (len(b) - 1))
    return float(spectra.t_quantile(level, freedom) * np.sqrt(u + v))
