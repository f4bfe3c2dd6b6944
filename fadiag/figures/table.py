"""Collect the variables of a figure in one table by condition and seed."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from fadiag.results import by_condition
from fadiag.results.layer_order import merge_orders
from fadiag.results.left_out import left_out, told_by_run
from fadiag.results.variables import find_variable, missing_variables, streams_of

__all__ = ["table"]

#: Variables without layers. All other variables of figures have layers, and a scalar of that name differs.
_SCALARS = ("test_accuracy",)


def table(results: xr.DataTree, needed: Sequence[str], optional: Sequence[str] = ()) -> xr.Dataset:
    """Return the variables of a figure as one Dataset with dims (condition, seed, ...).

    All variables of probe and live streams come from one stream, so that they belong together. A needed
    variable that is missing has no values. The attribute ``left_out`` has a line for each item left out;
    ``lost_runs`` names the runs that have no place in the results.

    Raises
    ------
    MissingSignalError
        All needed variables are missing, or all of those with layers. The error names them.
    """
    streams = streams_of(results, needed)
    found = {name: find_variable(results, name, streams) for name in (*needed, *optional)}
    found = {name: at for name, at in found.items() if at and (name in _SCALARS or "layer" in at[1].dims)}
    missing = [name for name in needed if name not in found]
    whole = [name for name in needed if name not in _SCALARS] or needed
    if not any(name in found for name in whole):
        raise missing_variables(results, missing, next(iter(streams), None))
    arrays = {name: by_condition(results, name, stream=at[0]) for name, at in found.items() if at}
    like = next(arrays[name] for name in whole if name in arrays)
    arrays |= {name: _without_values(like, name) for name in missing}
    attrs = _declared(results) | _stream_taken(streams) | _passed(arrays, streams)
    for dim in ("condition", "layer"):
        _reindex(arrays, dim)
    return xr.Dataset(arrays, attrs=attrs | _left_out(results, missing, arrays))


def _without_values(like: xr.DataArray, name: str) -> xr.DataArray:
    """Return a variable of NaN in place of one that the results lack."""
    array = like.isel(layer=0, drop=True) if name in _SCALARS else like
    return (array * np.nan).rename(name).assign_attrs({k: like.attrs[k] for k in ("stream", "runs_of")})


def _left_out(
    results: xr.DataTree, missing: Sequence[str], arrays: Mapping[str, xr.DataArray]
) -> dict[str, list[str]]:
    """Return the attributes on what was left out of the runs, and on missing variables."""
    records = [
        record
        for record in left_out(results)
        if record.of_run or record.metric.removesuffix("_null") in {*arrays, *missing}
    ]
    here = {run for array in arrays.values() for of in array.attrs["runs_of"].values() for run in of.values()}
    absent = [f"{', '.join(missing)} (not in the results)"] if missing else []
    return {
        "missing": list(missing),
        "left_out": [*told_by_run(records), *absent],
        "runs_left_out": list(dict.fromkeys(record.run for record in records)),
        "lost_runs": [record.run for record in records if record.run not in here],
    }


def _stream_taken(streams: Sequence[str]) -> dict[str, str]:
    """Return the name of the chosen stream and of the others, if there are several."""
    if len(streams) < 2:
        return {}
    return {"stream": streams[0], "other_streams": ", ".join(streams[1:])}


def _declared(results: xr.DataTree) -> dict[str, str]:
    """Return the primary metric and layer that the study declared before it ran, if all runs agree."""
    declared = {}
    for name in ("primary_metric", "primary_layer"):
        values = {str(v) for node in results.subtree if name in node.coords for v in node.coords[name].values}
        if len(values) == 1:
            declared[name] = values.pop()
    return declared


def _passed(arrays: dict[str, xr.DataArray], streams: Sequence[str]) -> dict[str, list[str]]:
    """Return the layers of the passes. Weights may have more layers, such as an unused head."""
    layers = [
        _labels(a, "layer") for a in arrays.values() if "layer" in a.dims and a.attrs["stream"] in streams
    ]
    return {"passed": merge_orders(layers)} if layers else {}


def _reindex(arrays: dict[str, xr.DataArray], dim: str) -> None:
    """Give all arrays the same labels in forward order, since xarray would sort a union of layers by name."""
    merged = merge_orders(_labels(a, dim) for a in arrays.values() if dim in a.dims)
    for name, array in arrays.items():
        if dim in array.dims and _labels(array, dim) != merged:
            arrays[name] = array.reindex({dim: merged})


def _labels(array: xr.DataArray, dim: str) -> list[str]:
    return [str(label) for label in array[dim].values]
