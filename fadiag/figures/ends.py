"""The values at the end of training: one step for all conditions that stand beside each other."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fadiag.figures.table import of
from fadiag.spectra.statistics.p_value import TIE

__all__ = ["above_null", "beside_null", "exceeds", "final"]


def final(array: xr.DataArray, conditions: Sequence[str] = ()) -> xr.DataArray:
    """Return the values at the end of training: the last step at which every condition has one.

    One step for all, since what is measured moves with training: conditions that were trained for longer are
    read where the shortest ends. A condition without any value has no say. A run without a value at that step
    (it was cut short, or diverged) stays NaN rather than lend an earlier one.

    Parameters
    ----------
    array : xarray.DataArray
        What `by_condition` returns, with a step.
    conditions : sequence of str
        The conditions that are held against each other; all of them when left out.

    Returns
    -------
    xarray.DataArray
        Without the step, which is the coordinate ``step`` (-1 and no value where the conditions have none in
        common); the coordinate ``last_step`` along condition is the last at which each has a value, and
        ``recorded_until`` the last that was recorded, with a value or without.

    Examples
    --------
    >>> curves = xr.DataArray(
    ...     [[[1.0, 2.0, np.nan]], [[3.0, 4.0, 5.0]]],
    ...     dims=("condition", "seed", "step"),
    ...     coords={"condition": ["bp", "fa"], "step": [0, 10, 20]},
    ... )
    >>> end = final(curves)
    >>> end.values.tolist(), int(end["step"]), end["last_step"].values.tolist()
    ([[2.0], [4.0]], 10, [10, 20])
    """
    if conditions:
        array = array.sel({"condition": list(conditions)})
    apart = [dim for dim in array.dims if dim not in ("condition", "step")]
    known = (abs(array) < np.inf).any(apart).transpose("condition", "step").values
    steps = array["step"].values
    last = [int(steps[row][-1]) if row.any() else -1 for row in known]
    shared = np.flatnonzero(known[known.any(axis=1)].all(axis=0))
    out = (
        array.isel(step=shared[-1])
        if shared.size
        else array.isel(step=-1).where(False).assign_coords(step=-1)
    )
    until = array.attrs.get("recorded_until", int(steps[-1]))
    return out.assign_coords(last_step=("condition", last), recorded_until=until).assign_attrs(array.attrs)


def beside_null(
    numbers: xr.Dataset, name: str, null: str, condition: str, layer: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the final values of a condition's runs and of a null, at one step: the null may be rarer."""
    both = xr.Dataset({key: numbers[key].sel(layer=layer) for key in (name, null)})
    drawn = both[null].notnull() & both[name].notnull()
    values, nulls = (of(final(both[key].where(drawn), (condition,)), condition) for key in (name, null))
    return values, nulls


def exceeds(values: xr.DataArray, bound: xr.DataArray) -> xr.DataArray:
    """Tell which values lie above a bound by more than rounding does, as `spectra.at_or_above` counts draws.

    Where a statistic cannot depend on what is drawn, it and its null are one number up to rounding.

    >>> exceeds(xr.DataArray([1.0 + 1e-9, 1.1, np.nan]), xr.DataArray(1.0)).values.tolist()
    [False, True, False]
    """
    return values - bound > TIE * np.fmax(abs(values), abs(bound))


def above_null(
    numbers: xr.Dataset, name: str, condition: str, layer: str
) -> tuple[int, int, xr.DataArray] | None:
    """Return how many of a condition's runs end above their null, of how many, and the values told of.

    None where no null was drawn: chance is not known then.
    """
    null = f"{name}_null_high"
    if null not in numbers:
        return None
    values, high = beside_null(numbers, name, null, condition, layer)
    known = int(high.notnull().sum())
    return (int(exceeds(values, high).sum()), known, values) if known else None
