"""Arrange a variable of the results by condition and seed, so that runs pair by their seeds."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.results.provenance import samples_of_conditions
from fadiag.results.roles import baselines_first
from fadiag.results.run_labels import conditions_of, seeds_of
from fadiag.results.variables import find_variable, missing_variables, streams_of

__all__ = ["by_condition", "of_condition"]


def of_condition(array: xr.DataArray, condition: str) -> xr.DataArray:
    """Return the values of one condition, without the dimension ``condition``."""
    return array.sel({"condition": condition}, drop=True)


def by_condition(results: xr.DataTree, name: str, *, stream: str | None = None) -> xr.DataArray:
    """Return a variable with dims (condition, seed, ...) in place of (run, ...).

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`.
    name : str
        Name of the variable.
    stream : str, optional
        The stream to read. By default the first stream with the variable; a probe comes before other streams.

    Returns
    -------
    DataArray
        Conditions whose rule is "bp" come first; the others follow in the order of the results. A value is
        NaN if a condition has no run of a seed. Seeds are whole numbers or texts; a run without a seed gets a
        unique text. Added attributes are ``stream``, ``recorded_until`` (the last step of the stream), and
        ``runs_of`` (the runs by condition and seed).

    Raises
    ------
    MissingSignalError
        No stream has the variable, or the given stream does not.
    InputError
        Two runs have the same condition and seed.

    Examples
    --------
    >>> runs = {"run": ["a", "b"], "rule": ("run", ["fa", "bp"]), "seed": ("run", [0, 0]), "step": [9]}
    >>> log = xr.Dataset({"loss": (("run", "step"), [[0.5], [0.25]])}, runs)
    >>> found = by_condition(xr.DataTree.from_dict({"/log": log}), "loss")
    >>> found.dims, found["condition"].values.tolist(), found.squeeze().values.tolist()
    (('condition', 'seed', 'step'), ['bp', 'fa'], [0.25, 0.5])
    """
    within = results if stream is None else results.filter(lambda node: node.name == stream)
    found = find_variable(within, name, streams_of(within, [name]))
    if found is None:
        raise missing_variables(results, [name], stream)
    home, array = found
    if "run" not in array.dims:
        raise InputError(
            f"variable '{name}' has dims {array.dims}, without 'run': not a result of fadiag.analyze"
        )
    conditions = conditions_of(array) or [str(run) for run in array["run"].values]
    seeds = seeds_of(array)
    order, seed_order = baselines_first(array), _sorted_seeds(seeds)
    rest = [str(dim) for dim in array.dims if dim != "run"]
    source = array.transpose("run", *rest)
    values = np.full((len(order), len(seed_order), *source.shape[1:]), np.nan)
    labels, numbers = source["run"].values, source.values
    taken: dict[tuple[int, int], int] = {}
    runs: dict[str, dict[int | str, str]] = {condition: {} for condition in order}
    for i, (condition, seed) in enumerate(zip(conditions, seeds, strict=True)):
        place = (order.index(condition), seed_order.index(seed))
        if place in taken:
            raise InputError(_clash(source, (taken[place], i), f"condition '{condition}' and seed {seed}"))
        taken[place] = i
        runs[condition][seed] = str(labels[i])
        values[place] = numbers[i]
    coords = {
        "condition": order,
        "seed": _index(seed_order),
        **{dim: source[dim].values for dim in rest if dim in source.coords},
    }
    attrs = {
        **array.attrs,
        "stream": home,
        "runs_of": runs,
        **_recorded(source),
        **samples_of_conditions(source, conditions),
    }
    return xr.DataArray(values, dims=("condition", "seed", *rest), coords=coords, name=name, attrs=attrs)


def _sorted_seeds(seeds: Iterable[int | str]) -> list[int | str]:
    """Return the distinct seeds: first numbers by size, then texts in alphabetical order."""
    unique = set(seeds)
    numbers = sorted(seed for seed in unique if isinstance(seed, int))
    return [*numbers, *sorted(seed for seed in unique if isinstance(seed, str))]


def _index(seeds: list[int | str]) -> NDArray[Any]:
    """Return seeds as an index; dtype object keeps numpy from turning numbers among texts into texts."""
    return np.array(seeds, object if any(isinstance(seed, str) for seed in seeds) else None)


def _clash(array: xr.DataArray, at: tuple[int, int], shared: str) -> str:
    """Return the error text for two runs with the same condition and seed."""
    pair = array.isel(run=list(at))
    clash = "runs '{}' and '{}' share ".format(*pair["run"].values) + shared
    if "feedback_seed" in pair.coords and len(set(pair["feedback_seed"].values.tolist())) == 2:
        # A figure could show their mean, but the interval over seeds would ignore the feedback's variance.
        return (
            f"{clash} and differ in their feedback seed, and a figure has one run per condition and seed: "
            "compare such runs with `fadiag compare`, or analyze the runs of each feedback seed separately"
        )
    return f"{clash}; give one of them another 'condition' in its meta, or analyze them separately"


def _recorded(array: xr.DataArray) -> dict[str, int]:
    """Return the last step of the stream; a table with other streams may have later steps."""
    return {"recorded_until": int(array["step"].values[-1])} if array.sizes.get("step") else {}
