"""Count in words the runs beyond their null."""

from collections.abc import Iterable

import xarray as xr

from fadiag.figures.look.theme import label
from fadiag.results.null_values import beside_null, exceeds
from fadiag.store.tools.printable import printable

__all__ = ["beyond_null"]


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
    numbers = xr.Dataset({"value": values, "low": low, "high": high})
    if layer not in numbers["layer"].values:
        return ""
    counts = [f"{label(name)} {count}" for name in conditions if (count := _counts(numbers, name, layer))]
    head = f"At {layer}, runs below / above the central 95 % of their {words}"
    return f"{printable(head)}: {'; '.join(counts)}" if counts else ""


def _counts(numbers: xr.Dataset, condition: str, layer: str) -> str:
    at_end = _count(numbers, condition, layer)
    if not at_end:
        return ""
    first, last = numbers["step"].values[[0, -1]]
    if first != 0 or last == 0:
        return at_end
    at_start = _count(numbers.sel(step=[0]), condition, layer)
    return f"{at_end} (step 0: {at_start})" if at_start else at_end


def _count(numbers: xr.Dataset, condition: str, layer: str) -> str:
    value, low = beside_null(numbers, "value", "low", condition, layer)
    _, high = beside_null(numbers, "value", "high", condition, layer)
    drawn = low.notnull() & high.notnull()
    known = int(drawn.sum())
    below, above = (int((drawn & beyond).sum()) for beyond in (exceeds(low, value), exceeds(value, high)))
    return f"{below} / {above} of {known}" if known else ""
