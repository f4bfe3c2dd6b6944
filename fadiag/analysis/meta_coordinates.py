"""Turn the meta entries of runs into coordinates along ``run``."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.analysis.plan.runs import Run
from fadiag.errors import CaptureWarning
from fadiag.results.provenance import STREAM_COORDINATES

__all__ = ["column", "run_coordinates", "warn_of_clashes"]

#: Names of the results' own coordinates. A meta entry with such a name is left out.
_OWN = ("run", "layer", "step", "run_id", "generation", *STREAM_COORDINATES)


def run_coordinates(runs: Sequence[Run]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return one coordinate along run for each scalar meta entry of the runs."""
    names = _names_of_meta(runs)
    return {
        name: ("run", column([run.meta.get(key) for run in runs]))
        for key, name in names.items()
        if name and name not in _OWN
    }


def _names_of_meta(runs: Sequence[Run]) -> dict[str, str]:
    """Return the name of each meta entry's coordinate; "" if no name is left for it.

    The name is the key with "_" in place of each character that is not a letter, digit or underscore.
    """
    names: dict[str, str] = {}
    for key in dict.fromkeys(key for run in runs for key in run.meta):
        name = re.sub(r"\W", "_", key)
        names[key] = "" if not name.strip("_") or name in names.values() else name
    return names


def column(values: Sequence[str | int | float | bool | None]) -> NDArray[Any]:
    """Return values as an array of booleans or numbers if one dtype holds each exactly, else as strings."""
    known = [v for v in values if v is not None]
    whole = len(known) == len(values)
    if all(isinstance(v, bool) for v in known) and whole:
        return np.array(values, np.bool_)
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known):
        for dtype in (np.int64, np.uint64) if whole and not any(isinstance(v, float) for v in known) else ():
            limits = np.iinfo(dtype)
            if all(limits.min <= int(v) <= limits.max for v in known):
                return np.array(values, dtype)
        if all(map(_fits_float, known)):
            return np.array([np.nan if v is None else v for v in values], np.float64)
    return np.array(["" if v is None else str(v) for v in values], object)


def _fits_float(value: Any) -> bool:
    """Return whether float64 holds a number exactly; an integer beyond 2**53 may not fit."""
    try:
        return isinstance(value, float) or int(float(value)) == value
    except OverflowError:
        return False


def warn_of_clashes(runs: Sequence[Run], measured: set[str]) -> None:
    """Warn about meta entries whose names the results use for something else."""
    logged = {key for run in runs for stream in run.streams.values() for key in stream.scalars}
    for key, name in _names_of_meta(runs).items():
        if not name:
            clash = f"meta's entry '{key}' is not in the results, because no name is left for it"
        elif name in _OWN:
            clash = f"meta's entry '{key}' is not in the results, which have a coordinate of that name"
        elif name in logged | measured:
            clash = (
                f"'{key}' is an entry of meta and a logged or measured value, which is called '{name}_value' "
                "in the results"
            )
        elif name != key:
            clash = f"meta's entry '{key}' is called '{name}' in the results"
        else:
            continue
        warnings.warn(f"{clash}; record the entry under another name", CaptureWarning, stacklevel=4)
