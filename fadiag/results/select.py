"""Select runs of results by condition, seed or any other entry."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.results.io import require_results
from fadiag.results.run_labels import as_text, conditions_of, is_missing

__all__ = ["Results", "select"]

Results = TypeVar("Results", xr.DataTree, xr.Dataset, xr.DataArray)

#: An error lists at most so many values.
_LISTED = 20


def select(
    results: Results, *, condition: Any = None, seed: Any = None, run: Any = None, **others: Any
) -> Results:
    """Return the results of the runs that match, in the order of the results.

    Parameters
    ----------
    results : DataTree, Dataset or DataArray
        Results of `fadiag.analyze`, or a part of them with the dimension ``run``.
    condition, seed, run : value or sequence of values, optional
        A run matches if its condition, its seed and its label are each among the values. Runs without a
        condition have the condition ``(no condition)``.
    **others : value or sequence of values
        The same for any other coordinate along ``run``, such as ``feedback_seed``. Values are compared as
        text: seed 0 matches the text "0".

    Returns
    -------
    DataTree, Dataset or DataArray
        The same type as `results`. Groups of a tree without runs are unchanged. In a group without one of the
        coordinates, the selected runs are those that match in another group.

    Raises
    ------
    InputError
        There is no coordinate of that name along ``run``, no run has a value, or no run has all of them.

    Examples
    --------
    >>> runs = {"run": ["a", "b", "c"], "condition": ("run", ["bp", "fa", "fa"]), "seed": ("run", [0, 0, 1])}
    >>> loss = xr.DataArray([1.0, 2.0, 3.0], runs, "run")
    >>> select(loss, condition="fa").values.tolist()
    [2.0, 3.0]
    >>> select(xr.DataTree.from_dict({"/log": loss.to_dataset(name="loss")}), seed=[1])["log/loss"].item()
    3.0
    """
    given = {"condition": condition, "seed": seed, "run": run, **others}
    wanted = {name: np.atleast_1d(value).tolist() for name, value in given.items() if value is not None}
    if not isinstance(results, (xr.Dataset, xr.DataArray)):
        require_results(results)
    if not isinstance(results, xr.DataTree):
        return results.isel(run=_places({"": results}, wanted)[""])
    groups = {path: node.to_dataset() for path, node in results.subtree_with_keys}
    places = _places(groups, wanted)
    chosen = {path: g.isel(run=places[path]) if path in places else g for path, g in groups.items()}
    return xr.DataTree.from_dict(chosen, name=results.name)


def _places(
    groups: Mapping[str, xr.Dataset | xr.DataArray], wanted: Mapping[str, Sequence[Any]]
) -> dict[str, NDArray[np.intp]]:
    """Return the positions of the runs that match in each group that has runs."""
    groups = {path: group for path, group in groups.items() if "run" in group.dims}
    if not groups:
        raise InputError("the results have no dimension 'run' to select from")
    matches = {path: np.ones(group.sizes["run"], np.bool_) for path, group in groups.items()}
    for name, values in wanted.items():
        entries = {path: _entries(group, name) for path, group in groups.items()}
        _check(groups, entries, name, values)
        texts = {as_text(value) for value in values}
        having = [path for path in groups if entries[path]]
        labels = {
            label
            for path in having
            for label, entry in zip(_entries(groups[path], "run"), entries[path], strict=True)
            if entry in texts
        }
        for path, group in groups.items():
            by_label = [label in labels for label in _entries(group, "run")]
            matches[path] &= [entry in texts for entry in entries[path]] if path in having else by_label
    if not any(match.any() for match in matches.values()):
        given = ", ".join(f"{name}={_list(map(repr, values))}" for name, values in wanted.items())
        raise InputError(f"{given} match no run together; select by one of them to see its runs")
    return {path: np.flatnonzero(match) for path, match in matches.items()}


def _entries(group: xr.Dataset | xr.DataArray, name: str) -> list[str]:
    """Return a coordinate of the runs of a group as texts; an empty list if it has no such coordinate."""
    if name == "condition":
        return conditions_of(group)
    if name not in group.coords or group[name].dims != ("run",):
        return []
    return [as_text(value) for value in group[name].values]


def _check(
    groups: Mapping[str, xr.Dataset | xr.DataArray],
    entries: Mapping[str, Sequence[str]],
    name: str,
    values: Iterable[Any],
) -> None:
    """Raise InputError for a name that is not a coordinate of the runs, or a value that no run has."""
    if not any(entries.values()):
        coordinates = (str(c) for g in groups.values() for c, at in g.coords.items() if at.dims == ("run",))
        names = list(dict.fromkeys(coordinates))
        raise InputError(f"the runs have no {name!r}{_near(name, names)}; they have {_list(names)}")
    known = list(dict.fromkeys(e for column in entries.values() for e in column if not is_missing(e)))
    for value in values:
        if as_text(value) not in known:
            raise InputError(
                f"{name}={value!r} matches no run{_near(value, known)}; there are {_list(known)}"
            )


def _near(value: Any, names: Sequence[str]) -> str:
    near = get_close_matches(value, names) if isinstance(value, str) else []
    return f" (near: {', '.join(near)})" if near else ""


def _list(texts: Iterable[str]) -> str:
    found = list(texts)
    rest = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return (", ".join(found[:_LISTED]) or "none") + rest
