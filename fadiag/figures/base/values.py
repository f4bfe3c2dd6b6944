"""Read a variable of the results for a figure, by condition and seed."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fadiag.figures.base.measure import Measure
from fadiag.results import by_condition
from fadiag.results.variables import missing_variables

__all__ = ["values_of", "with_twin"]


def values_of(
    results: xr.DataTree, measure: Measure, conditions: Sequence[str], stream: str | None
) -> xr.DataArray:
    """Return a variable with dims (condition, seed, ...) of the given conditions, NaN where it has no value.

    Raises
    ------
    MissingSignalError
        The results, or the given stream, lack the variable.
    """
    found = by_condition(results, measure.name, stream=stream)
    if measure.layered and "layer" not in found.dims:
        raise missing_variables(results, [measure.name], None)
    found = found.reindex({"condition": list(conditions)}).assign_attrs(found.attrs)
    if measure.per_cent and np.nanmax(found.values, initial=0.0) <= 1:
        found = (found * 100).assign_attrs(found.attrs)
    if measure.degrees:
        found = found.copy(data=np.degrees(np.arccos(found.clip(-1, 1).values)))
    possible = (measure.floor, measure.roof)  # for the intervals in captions
    return found.where(np.isfinite(found)).assign_attrs({**found.attrs, "possible": possible})


def with_twin(values: xr.DataArray, twin: xr.DataArray, reference: str) -> xr.DataArray:
    """Return values of one condition, and before them those of its exact error as another condition."""
    (condition,) = (str(name) for name in values["condition"].values)
    exact = twin.sel({"condition": [condition]}).assign_coords(condition=[reference])
    attrs = dict(values.attrs)
    for name in ("runs_of", "samples_of"):
        if name in attrs:
            attrs[name] = {**attrs[name], reference: attrs[name].get(condition, {})}
    joined = xr.concat([exact, values], "condition", join="outer", combine_attrs="drop")
    return joined.rename(values.name).assign_attrs(attrs)
