"""Results seen by method and seed: the tables that figures draw."""

from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
import xarray as xr

from fadiag.errors import InputError, MissingSignalError

__all__ = ["by_method", "final", "has", "of", "table"]

#: The order in which known methods are told; others follow in the order of the results.
ORDER = ("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen")


def _find(results: xr.DataTree, name: str) -> xr.DataArray | None:
    for node in results.subtree:
        if name in node.data_vars:
            return node.to_dataset()[name]
    return None


def has(results: xr.DataTree, name: str) -> bool:
    """Tell whether any stream of the results holds a variable."""
    return _find(results, name) is not None


def of(array: xr.DataArray, method: str) -> xr.DataArray:
    """Return the part of one method; ``sel(method=...)`` means another thing to xarray."""
    return array.sel({"method": method}, drop=True)


def _missing(results: xr.DataTree, names: Sequence[str]) -> MissingSignalError:
    held = sorted({str(v) for node in results.subtree for v in node.data_vars})
    return MissingSignalError(
        f"the results hold no {', '.join(names)}; they hold {', '.join(held) or 'no variable at all'}: "
        "record the signals that the missing ones are measured on and analyse again"
    )


def _labels(array: xr.DataArray) -> tuple[list[str], list[int]]:
    """Return the method and the seed of each run; failing that its rule, or its label.

    A run without a seed takes the first number that no other run of its method has.
    """
    source = next((name for name in ("method", "rule") if name in array.coords), "run")
    methods = [str(value) for value in array[source].values]
    told = array["seed"].values if "seed" in array.coords else [None] * len(methods)
    seeds = [_whole(value) for value in told]
    for i, method in enumerate(methods):
        if seeds[i] is None:
            taken = {seed for seed, other in zip(seeds, methods, strict=True) if other == method}
            seeds[i] = next(number for number in count() if number not in taken)
    return methods, [seed for seed in seeds if seed is not None]


def _whole(value: object) -> int | None:
    """Return a seed, or None where a run does not tell one (NaN or an empty text among others that do)."""
    try:
        return int(str(value).removesuffix(".0"))
    except ValueError:
        return None


def _sorted_methods(methods: Iterable[str]) -> list[str]:
    unique = dict.fromkeys(methods)
    return [m for m in ORDER if m in unique] + [m for m in unique if m not in ORDER]


def by_method(results: xr.DataTree, name: str) -> xr.DataArray:
    """Return a variable with dims (method, seed, ...) in place of (run, ...).

    Parameters
    ----------
    results : xarray.DataTree
        What `fadiag.analyze` returns. The first stream that holds the variable is taken.
    name : str
        The variable.

    Returns
    -------
    xarray.DataArray
        NaN where a method has no run of a seed; attributes are kept, ``stream`` is added.

    Raises
    ------
    MissingSignalError
        If no stream holds the variable.
    InputError
        If two runs share method and seed: which of them would be drawn?
    """
    array = _find(results, name)
    if array is None:
        raise _missing(results, [name])
    if "run" not in array.dims:
        raise InputError(
            f"variable '{name}' has dims {array.dims}, without 'run': not a result of fadiag.analyze"
        )
    methods, seeds = _labels(array)
    order, seed_order = _sorted_methods(methods), sorted(set(seeds))
    rest = [str(dim) for dim in array.dims if dim != "run"]
    source = array.transpose("run", *rest)
    values = np.full((len(order), len(seed_order), *source.shape[1:]), np.nan)
    taken: dict[tuple[int, int], str] = {}
    for i, (method, seed) in enumerate(zip(methods, seeds, strict=True)):
        place = (order.index(method), seed_order.index(seed))
        run = str(source["run"].values[i])
        if place in taken:
            raise InputError(
                f"runs '{taken[place]}' and '{run}' share method '{method}' and seed {seed}; "
                "give one of them another 'method' in its meta, or analyse them apart"
            )
        taken[place] = run
        values[place] = source.values[i]
    coords = {
        "method": order,
        "seed": seed_order,
        **{dim: source[dim].values for dim in rest if dim in source.coords},
    }
    return xr.DataArray(
        values, dims=("method", "seed", *rest), coords=coords, name=name, attrs=dict(array.attrs)
    )


def table(results: xr.DataTree, needed: Sequence[str], optional: Sequence[str] = ()) -> xr.Dataset:
    """Return the variables of a figure as one Dataset with dims (method, seed, ...).

    Raises
    ------
    MissingSignalError
        Names every needed variable that is missing, not only the first.
    """
    missing = [name for name in needed if not has(results, name)]
    if missing:
        raise _missing(results, missing)
    present = [*needed, *(name for name in optional if has(results, name))]
    arrays = {name: by_method(results, name) for name in present}
    for dim in ("method", "layer"):
        _check_same_order(arrays, dim)
    return xr.Dataset(arrays, attrs=_declared(results))


def _declared(results: xr.DataTree) -> dict[str, str]:
    """Return what the study declared before it ran, where all runs agree."""
    declared = {}
    for name in ("primary_metric", "primary_layer"):
        values = {str(v) for node in results.subtree if name in node.coords for v in node.coords[name].values}
        if len(values) == 1:
            declared[name] = values.pop()
    return declared


def _check_same_order(arrays: dict[str, xr.DataArray], dim: str) -> None:
    # xarray would sort a union of differing layers by name, and forward order would be lost.
    with_dim = {name: [str(v) for v in a[dim].values] for name, a in arrays.items() if dim in a.dims}
    longest = max(with_dim.values(), key=len, default=[])
    for name, labels in with_dim.items():
        if labels != longest:
            extra = [label for label in labels if label not in longest]
            if extra:
                raise InputError(f"variable '{name}' has {dim}s {extra} that others of the figure lack")
            arrays[name] = arrays[name].reindex({dim: longest})


def final(array: xr.DataArray) -> xr.DataArray:
    """Return the value at the end of training: each method's last step at which any of its runs has one.

    A run that has none there (it was cut short, or diverged) stays NaN rather than lending an earlier step.
    """
    known = np.isfinite(array.values)
    other = tuple(i for i, dim in enumerate(array.dims) if dim not in ("method", "step"))
    any_run = xr.DataArray(known.any(axis=other), dims=("method", "step"))
    ends = [np.flatnonzero(row) for row in any_run.values]
    picks = [
        array.isel(method=i, step=end[-1] if end.size else -1).drop_vars("step") for i, end in enumerate(ends)
    ]
    out = xr.concat(picks, dim=array["method"]) if picks else array.isel(step=-1, drop=True)
    return out.assign_attrs(array.attrs)
