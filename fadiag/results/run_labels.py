"""Read the condition and the seed of each run from its meta entries."""

from typing import Any

import numpy as np
import xarray as xr

__all__ = ["NO_CONDITION", "as_text", "conditions_of", "entries_of", "is_missing", "seeds_of"]

#: The condition of runs without one, if other runs have one.
NO_CONDITION = "(no condition)"


def is_missing(value: Any) -> bool:
    """Return whether a coordinate has no entry for a run: NaN among numbers, "" among texts."""
    return value is None or str(value) in ("nan", "")


def as_text(value: Any) -> str:
    """Return an entry of a run as text, with a whole float written as an integer.

    A coordinate of whole numbers holds floats if a run has no entry.

    >>> as_text(3.0), as_text(np.float64(0.1)), as_text("01")
    ('3', '0.1', '01')
    """
    plain = value.item() if isinstance(value, np.generic) else value
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() else str(plain)


def conditions_of(runs: xr.Dataset | xr.DataArray) -> list[str]:
    """Return the condition of each run, or its rule if the runs have no coordinate ``condition``.

    The list is empty if they have neither coordinate.

    >>> runs = xr.Dataset(coords={"run": ["a", "b"], "condition": ("run", ["fa", ""])})
    >>> conditions_of(runs)
    ['fa', '(no condition)']
    """
    source = next((name for name in ("condition", "rule") if name in runs.coords), None)
    values = () if source is None else runs[source].values
    return [NO_CONDITION if is_missing(value) else str(value) for value in values]


def seeds_of(runs: xr.Dataset | xr.DataArray) -> list[int | str]:
    """Return the seed of each run: a whole number or a text; fractions become texts.

    Runs pair by their seeds, so a run without a seed gets a unique text.

    >>> runs = xr.Dataset(coords={"run": ["a", "b"], "seed": ("run", [3.0, np.nan])})
    >>> seeds_of(runs)
    [3, '(no seed, run b)']
    """
    labels = [str(run) for run in runs["run"].values]
    seeds = runs["seed"].values.tolist() if "seed" in runs.coords else [None] * len(labels)
    return [
        f"(no seed, run {run})" if is_missing(seed) else seed if isinstance(seed, int) else _seed(seed)
        for seed, run in zip(seeds, labels, strict=True)
    ]


def _seed(seed: float | str) -> int | str:
    return int(seed) if isinstance(seed, float) and seed.is_integer() else str(seed)


def entries_of(results: xr.DataTree, name: str) -> list[str]:
    """Return the distinct entries of the runs under a name, as texts; runs without one are left out."""
    return list(
        dict.fromkeys(
            as_text(value)
            for node in results.children.values()
            if name in node.coords and node.coords[name].dims == ("run",)
            for value in node.coords[name].values
            if not is_missing(value)
        )
    )
