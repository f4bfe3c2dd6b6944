"""The table behind a figure: its variables side by side, by condition and seed."""

from collections.abc import Sequence

import xarray as xr

from fadiag.results import by_condition
from fadiag.results.layer_order import merge_orders
from fadiag.results.variables import find_variable, missing_variables, streams_of

__all__ = ["table"]

#: What figures draw of a run as a whole; all else has layers, and a scalar of its name is another thing.
_SCALARS = ("test_accuracy",)


def table(results: xr.DataTree, needed: Sequence[str], optional: Sequence[str] = ()) -> xr.Dataset:
    """Return the variables of a figure as one Dataset with dims (condition, seed, ...).

    All that is measured on passes comes from one stream, so that what is drawn together belongs together.

    Raises
    ------
    MissingSignalError
        Names every needed variable that is missing, not only the first.
    """
    streams = streams_of(results, needed)
    found = {name: find_variable(results, name, streams) for name in (*needed, *optional)}
    found = {name: at for name, at in found.items() if at and (name in _SCALARS or "layer" in at[1].dims)}
    missing = [name for name in needed if name not in found]
    if missing:
        raise missing_variables(results, missing, next(iter(streams), None))
    arrays = {name: by_condition(results, name, stream=at[0]) for name, at in found.items() if at}
    attrs = _declared(results) | _stream_taken(streams) | _passed(arrays, streams)
    for dim in ("condition", "layer"):
        _reindex(arrays, dim)
    return xr.Dataset(arrays, attrs=attrs)


def _stream_taken(streams: Sequence[str]) -> dict[str, str]:
    """Return which stream was taken, where there were several."""
    if len(streams) < 2:
        return {}
    return {"stream": streams[0], "other_streams": ", ".join(streams[1:])}


def _declared(results: xr.DataTree) -> dict[str, str]:
    """Return what the study declared before it ran, where all runs agree."""
    declared = {}
    for name in ("primary_metric", "primary_layer"):
        values = {str(v) for node in results.subtree if name in node.coords for v in node.coords[name].values}
        if len(values) == 1:
            declared[name] = values.pop()
    return declared


def _passed(arrays: dict[str, xr.DataArray], streams: Sequence[str]) -> dict[str, list[str]]:
    """Return the layers that the passes went through: weights may have others, such as an unused head."""
    layers = [
        _labels(a, "layer") for a in arrays.values() if "layer" in a.dims and a.attrs["stream"] in streams
    ]
    return {"passed": merge_orders(layers)} if layers else {}


def _reindex(arrays: dict[str, xr.DataArray], dim: str) -> None:
    """Give all arrays the labels of any, in one order: xarray would sort a union of layers by name."""
    merged = merge_orders(_labels(a, dim) for a in arrays.values() if dim in a.dims)
    for name, array in arrays.items():
        if dim in array.dims and _labels(array, dim) != merged:
            arrays[name] = array.reindex({dim: merged})


def _labels(array: xr.DataArray, dim: str) -> list[str]:
    return [str(label) for label in array[dim].values]
