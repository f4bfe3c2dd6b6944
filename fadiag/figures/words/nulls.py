"""Count in words the runs beyond their null."""

from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.figures.look.theme import label
from fadiag.results.null_values import exceeds
from fadiag.store.tools.printable import printable

__all__ = ["beyond_null"]

Floats = NDArray[np.float64]


def beyond_null(
    values: xr.DataArray,
    low: xr.DataArray,
    high: xr.DataArray,
    words: str,
    conditions: Iterable[str],
    *,
    layer: str,
) -> str:
    """Return how many runs of each condition are below and above their null, at the last step and at step 0.

    `values`, `low` and `high` have dims (condition, seed, layer, step). Step 0 shows the null of runs in
    which no feedback has acted.
    """
    if layer not in values["layer"].values:
        return ""
    here = [each.sel(layer=layer).transpose("condition", "seed", "step") for each in (values, low, high)]
    counts = []
    for name in conditions:
        runs, below, above = (each.sel({"condition": name}).values for each in here)
        if count := _counts(runs, below, above, values["step"].values):
            counts.append(f"{label(name)} {count}")
    head = f"At {layer}, runs below / above the central 95 % of their {words}"
    return f"{printable(head)}: {'; '.join(counts)}" if counts else ""


def _counts(values: Floats, low: Floats, high: Floats, steps: NDArray[np.int64]) -> str:
    """Return the counts at the last step with values and null, and at step 0; arrays are (seed, step)."""
    known = np.isfinite(values) & np.isfinite(low) & np.isfinite(high)
    places = np.flatnonzero(known.any(axis=0))
    if not places.size:
        return ""
    at_end, first = (_count(values, low, high, known, i) for i in (places[-1], places[0]))
    last = np.flatnonzero(np.isfinite(values).any(axis=0))[-1]
    if places[-1] != last:  # a null may be drawn at fewer steps than its variable
        at_end += f" at step {steps[places[-1]]}"
    return f"{at_end} (step 0: {first})" if steps[places[0]] == 0 and places.size > 1 else at_end


def _count(values: Floats, low: Floats, high: Floats, known: NDArray[np.bool_], place: int) -> str:
    runs = known[:, place]
    value, below, above = (xr.DataArray(each[runs, place]) for each in (values, low, high))
    return f"{int(exceeds(below, value).sum())} / {int(exceeds(value, above).sum())} of {int(runs.sum())}"
