"""Results seen by condition and seed: the tables that figures draw."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.errors import InputError, MissingSignalError

__all__ = ["by_condition", "find_in", "of", "streams_of", "table"]

#: The order in which known conditions are told; others follow in the order of the results.
ORDER = ("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen")

#: What runs without a condition are called beside runs with one.
_NAMELESS = "(no condition)"

#: How a condition or a seed that a run does not tell reads, beside runs that do.
_UNTOLD = ("nan", "")

#: What figures draw of a run as a whole; all else has layers, and a scalar of its name is another thing.
_SCALARS = ("test_accuracy",)

#: Kinds of streams that may hold the same variables, the most trusted first: a fixed batch tells of training
#: alone, the batches of a run of the draw too.
_PASSES = ("probe", "live")


def _kind(node: xr.DataTree) -> str:
    return str(node.attrs.get("kind", node.name))


def streams_of(results: xr.DataTree, names: Sequence[str]) -> tuple[str, ...]:
    """Return the streams of passes that hold any of the variables, the one to take first.

    A probe comes before a live stream, then what holds more of the variables, then the order of the results.
    """
    held = {
        stream: (_PASSES.index(_kind(node)), -many)
        for stream, node in results.children.items()
        if _kind(node) in _PASSES and (many := sum(name in node.data_vars for name in names))
    }
    return tuple(sorted(held, key=lambda stream: held[stream]))


def find_in(results: xr.DataTree, name: str, streams: Sequence[str]) -> tuple[str, xr.DataArray] | None:
    """Return a variable and its stream: the first given, or one whose kind holds no passes (state, log).

    What has layers goes before what has none: a scalar may have been logged under the name of a metric.
    """
    held = [
        (key, node.to_dataset()[name])
        for key, node in results.children.items()
        if name in node.data_vars and (key in streams[:1] or _kind(node) not in _PASSES)
    ]
    return min(held, key=lambda at: "layer" not in at[1].dims, default=None)


def of(array: xr.DataArray, condition: str) -> xr.DataArray:
    """Return the part of one condition; ``sel(condition=...)`` means another thing to xarray."""
    return array.sel({"condition": condition}, drop=True)


def _missing(results: xr.DataTree, names: Sequence[str], stream: str | None) -> MissingSignalError:
    held = sorted({str(v) for node in results.subtree for v in node.data_vars})
    near = [n for name in names for n in get_close_matches(name, held, n=2)]
    where = (f" in stream '{stream}'" if stream else " by layer") if any(n in held for n in names) else ""
    beside = f" (near are {', '.join(dict.fromkeys(near))})" if near and not where else ""
    return MissingSignalError(
        f"the results hold no {', '.join(names)}{where}{beside}; record or log what is missing and analyze "
        "again"
    )


def _labels(array: xr.DataArray) -> tuple[list[str], list[int | str]]:
    """Return the condition and the seed of each run; failing a condition its rule, or its label."""
    source = next((name for name in ("condition", "rule") if name in array.coords), "run")
    conditions = [_NAMELESS if str(value) in _UNTOLD else str(value) for value in array[source].values]
    runs = [str(run) for run in array["run"].values]
    told = array["seed"].values.tolist() if "seed" in array.coords else [None] * len(runs)
    return conditions, [_seed(value, run) for value, run in zip(told, runs, strict=True)]


def _seed(told: object, run: str) -> int | str:
    """Return a seed as it is told: a whole number, or a text, which fractions become.

    Runs pair by their seeds, so that one without a seed has its own, which no other run can share.
    """
    if isinstance(told, int) or (isinstance(told, float) and told.is_integer()):
        return int(told)
    return f"(no seed, run {run})" if told is None or str(told) in _UNTOLD else str(told)


def _sorted_seeds(seeds: Iterable[int | str]) -> list[int | str]:
    """Return the distinct seeds: numbers by size, then texts by the alphabet."""
    unique = set(seeds)
    numbers = sorted(seed for seed in unique if isinstance(seed, int))
    return [*numbers, *sorted(seed for seed in unique if isinstance(seed, str))]


def _index(seeds: list[int | str]) -> NDArray[Any]:
    """Return seeds as an index; numpy would turn numbers beside texts into texts."""
    return np.array(seeds, object if any(isinstance(seed, str) for seed in seeds) else None)


def _sorted_conditions(conditions: Iterable[str]) -> list[str]:
    unique = dict.fromkeys(conditions)
    return [m for m in ORDER if m in unique] + [m for m in unique if m not in ORDER]


def by_condition(results: xr.DataTree, name: str, *, stream: str | None = None) -> xr.DataArray:
    """Return a variable with dims (condition, seed, ...) in place of (run, ...).

    Parameters
    ----------
    results : xarray.DataTree
        What `fadiag.analyze` returns.
    name : str
        The variable.
    stream : str, optional
        The stream it is taken from; of several that hold it, the first probe when left out.

    Returns
    -------
    xarray.DataArray
        NaN where a condition has no run of a seed. Seeds are whole numbers or texts, as the runs tell them; a
        run that tells none stands under a seed of its own. Attributes are kept; ``stream`` and
        ``recorded_until``, the last step of that stream, are added.

    Raises
    ------
    MissingSignalError
        If no stream holds the variable, or the one named does not.
    InputError
        If two runs share condition and seed: which of them would be drawn?
    """
    within = results if stream is None else results.filter(lambda node: node.name == stream)
    found = find_in(within, name, streams_of(within, [name]))
    if found is None:
        raise _missing(results, [name], stream)
    home, array = found
    if "run" not in array.dims:
        raise InputError(
            f"variable '{name}' has dims {array.dims}, without 'run': not a result of fadiag.analyze"
        )
    conditions, seeds = _labels(array)
    order, seed_order = _sorted_conditions(conditions), _sorted_seeds(seeds)
    rest = [str(dim) for dim in array.dims if dim != "run"]
    source = array.transpose("run", *rest)
    values = np.full((len(order), len(seed_order), *source.shape[1:]), np.nan)
    taken: dict[tuple[int, int], int] = {}
    for i, (condition, seed) in enumerate(zip(conditions, seeds, strict=True)):
        place = (order.index(condition), seed_order.index(seed))
        if place in taken:
            raise InputError(_clash(source, (taken[place], i), f"condition '{condition}' and seed {seed}"))
        taken[place] = i
        values[place] = source.values[i]
    coords = {
        "condition": order,
        "seed": _index(seed_order),
        **{dim: source[dim].values for dim in rest if dim in source.coords},
    }
    return xr.DataArray(
        values,
        dims=("condition", "seed", *rest),
        coords=coords,
        name=name,
        attrs={**array.attrs, "stream": home, **_recorded(source), **_samples(source, conditions)},
    )


def _clash(array: xr.DataArray, at: tuple[int, int], shared: str) -> str:
    """Say that two runs would be drawn as one, and the way out."""
    pair = array.isel(run=list(at))
    told = "runs '{}' and '{}' share ".format(*pair["run"].values) + shared
    if "feedback_seed" in pair.coords and len(set(pair["feedback_seed"].values.tolist())) == 2:
        # Their mean could be drawn, but its interval over seeds would leave the feedback's share out.
        return (
            f"{told} and differ in their feedback seed, and a figure has one run of each condition and seed: "
            "hold such runs against each other by `fadiag compare`, or analyze those of one feedback seed "
            "apart"
        )
    return f"{told}; give one of them another 'condition' in its meta, or analyze them apart"


def _samples(array: xr.DataArray, conditions: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return the numbers of samples that each condition's runs were measured on, if runs state theirs."""
    coordinate = array.attrs.get("samples_coordinate")
    if coordinate not in array.coords:
        return {}
    told: dict[str, list[str]] = {}
    for condition, value in zip(conditions, array[coordinate].values, strict=True):
        number = str(value).removesuffix(".0")
        if number not in _UNTOLD and number not in told.setdefault(condition, []):
            told[condition].append(number)
    return {"samples_of": told}


def _recorded(array: xr.DataArray) -> dict[str, int]:
    """Return the last step of the stream: beside other streams the table's steps may go further."""
    return {"recorded_until": int(array["step"].values[-1])} if array.sizes.get("step") else {}


def table(results: xr.DataTree, needed: Sequence[str], optional: Sequence[str] = ()) -> xr.Dataset:
    """Return the variables of a figure as one Dataset with dims (condition, seed, ...).

    All that is measured on passes is taken from one stream, so that what is drawn together belongs together.

    Raises
    ------
    MissingSignalError
        Names every needed variable that is missing, not only the first.
    """
    streams = streams_of(results, needed)
    found = {name: find_in(results, name, streams) for name in (*needed, *optional)}
    found = {name: at for name, at in found.items() if at and (name in _SCALARS or "layer" in at[1].dims)}
    missing = [name for name in needed if name not in found]
    if missing:
        raise _missing(results, missing, next(iter(streams), None))
    arrays = {name: by_condition(results, name, stream=at[0]) for name, at in found.items() if at}
    passed = _passed(arrays, streams)
    for dim in ("condition", "layer"):
        _reindex(arrays, dim)
    return xr.Dataset(arrays, attrs=_declared(results) | _told_of(streams) | passed)


def _told_of(streams: Sequence[str]) -> dict[str, str]:
    """Return which stream was taken, where several could have been."""
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
    """Return the layers that the passes went through: weights may have others, as of a head not in use."""
    layers = [
        _labels_of(a, "layer") for a in arrays.values() if "layer" in a.dims and a.attrs["stream"] in streams
    ]
    return {"passed": _merged(layers)} if layers else {}


def _reindex(arrays: dict[str, xr.DataArray], dim: str) -> None:
    """Give all arrays the labels of any, in one order: xarray would sort a union of layers by name."""
    merged = _merged([_labels_of(a, dim) for a in arrays.values() if dim in a.dims])
    for name, array in arrays.items():
        if dim in array.dims and _labels_of(array, dim) != merged:
            arrays[name] = array.reindex({dim: merged})


def _labels_of(array: xr.DataArray, dim: str) -> list[str]:
    return [str(label) for label in array[dim].values]


def _merged(orders: Iterable[list[str]]) -> list[str]:
    """Return all labels: the longest order, and what it lacks behind its predecessor in another."""
    merged: list[str] = []
    for order in sorted(orders, key=len, reverse=True):
        place = 0
        for label in order:
            if label not in merged:
                merged.insert(place, label)
            place = merged.index(label) + 1
    return merged
