"""Keep with results what the store of each run says of its recording, such as status and versions."""

import json
from collections.abc import Mapping
from typing import Any

import xarray as xr

__all__ = ["RECORDED", "recorded", "to_recorded_attribute"]

#: The attribute of the results' root that holds the entries.
RECORDED = "recorded"


def to_recorded_attribute(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the attribute of the results' root: entries by run, and once those that all runs share.

    An entry ``{"versions": {"torch": "2.13"}}`` becomes ``{"versions.torch": "2.13"}``.

    Examples
    --------
    >>> to_recorded_attribute({"a": {"host": "x", "device": "cpu"}, "b": {"host": "y", "device": "cpu"}})
    {'recorded': '{"shared": {"device": "cpu"}, "runs": {"a": {"host": "x"}, "b": {"host": "y"}}}'}
    """
    flat = {run: dict(_flat(found)) for run, found in entries.items() if found}
    if not flat:
        return {}
    first = next(iter(flat.values()))
    shared = {
        key: value for key, value in first.items() if all(own.get(key, ...) == value for own in flat.values())
    }
    runs = {run: {k: v for k, v in own.items() if k not in shared} for run, own in flat.items()}
    return {RECORDED: json.dumps({"shared": shared, "runs": runs}, default=str)}


def _flat(entries: Mapping[str, Any], stem: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in entries.items():
        name = f"{stem}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return found


def recorded(results: xr.DataTree) -> dict[str, dict[str, str]]:
    """Return what the stores say of the runs in these results, by run and entry, as texts.

    Examples
    --------
    >>> root = xr.Dataset(attrs=to_recorded_attribute({"a": {"host": "x"}}))
    >>> recorded(xr.DataTree.from_dict({"/": root, "/log": xr.Dataset(coords={"run": ["a"]})}))
    {'a': {'host': 'x'}}
    """
    held = json.loads(results.attrs.get(RECORDED, "{}"))
    here = {str(r) for node in results.subtree if "run" in node.coords for r in node.coords["run"].values}
    shared = held.get("shared", {})
    return {
        run: {key: _text(value) for key, value in {**shared, **own}.items()}
        for run, own in held.get("runs", {}).items()
        if run in here
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
