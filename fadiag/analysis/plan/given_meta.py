"""Check the meta entries that a user gives for stores already recorded."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["Entries", "GivenMeta", "entries_by_path"]

Entries = dict[str, str | int | float | bool]
GivenMeta = Mapping[Any, Mapping[str, Any]]


def entries_by_path(meta: GivenMeta, runs: Iterable[Any]) -> dict[Path, Entries]:
    """Return the given entries of each run, by the resolved path of the run.

    Raises
    ------
    InputError
        A path is not among the runs or is given twice, or an entry is not a text, a number or a bool.
    """
    known = {_resolved(run): str(run) for run in runs if isinstance(run, (str, os.PathLike))}
    found: dict[Path, Entries] = {}
    for given, entries in meta.items():
        path = _resolved(given)
        if path not in known:
            paths = ", ".join(known.values()) or "none by its path"
            raise InputError(f"meta names {given}, which is none of the runs; they are {paths}")
        if path in found:
            raise InputError(
                f"meta names {known[path]} twice, the second time as {given}; name each run once"
            )
        found[path] = _plain(given, entries)
    return found


def _resolved(path: Any) -> Path:
    return absolute_path(str(path)).resolve()


def _plain(path: Any, entries: Mapping[str, Any]) -> Entries:
    """Return entries as plain Python values, also those that are numpy scalars."""
    if not isinstance(entries, Mapping):
        raise InputError(f"meta of {path} is {entries!r}; give its entries: {{'condition': 'fa', 'seed': 0}}")
    plain = {key: v.item() if isinstance(v, np.generic) else v for key, v in entries.items()}
    for key, value in plain.items():
        if not isinstance(value, (str, int, float, bool)):
            raise InputError(
                f"meta of {path}: {key!r} is {value!r}; an entry is a text, a number, True or False"
            )
    return plain
