"""Find runs without a value although others of their condition have one: cut short, diverged, or lost."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fadiag.results.by_condition import of_condition

__all__ = ["dead_runs", "named", "runs_of", "runs_without_value"]

#: At most so many runs are named; the others are counted.
_NAMED = 4


def runs_of(values: xr.DataArray, condition: str) -> dict[int | str, str]:
    """Return the runs of a condition by seed, from an array of `by_condition`."""
    found: dict[int | str, str] = values.attrs.get("runs_of", {}).get(condition, {})
    return found


def runs_without_value(values: xr.DataArray) -> list[str]:
    """Return the runs without a finite value although another run of their condition has one.

    `values` are by condition and seed, as from `final_values`. If they have layers, a run is named if it
    lacks the value of any layer that another run has.

    Examples
    --------
    >>> runs_of = {"runs_of": {"fa": {0: "fa-seed0", 1: "fa-seed1"}}}
    >>> runs = {"condition": ["fa"], "seed": [0, 1]}
    >>> runs_without_value(xr.DataArray([[3.0, np.nan]], runs, ("condition", "seed"), attrs=runs_of))
    ['fa-seed1']
    """
    gone = []
    for condition in map(str, values["condition"].values):
        own = of_condition(values, condition)
        known = own.copy(data=np.isfinite(own.values))
        lacking = (known.any("seed") & ~known).any([d for d in known.dims if d != "seed"])
        seeds = set(lacking["seed"].values[lacking.values].tolist())
        gone += [run for seed, run in runs_of(values, condition).items() if seed in seeds]
    return gone


def dead_runs(at_end: xr.DataArray) -> dict[str, list[str]]:
    """Return the runs of each condition whose rank is that of a dead layer, from `final_values`."""
    if "dead" not in at_end.coords:
        return {}
    dead = at_end["dead"]
    seeds = dead.any([dim for dim in dead.dims if dim not in ("condition", "seed")])
    found = {}
    for condition in map(str, at_end["condition"].values):
        own = of_condition(seeds, condition)
        gone = set(own["seed"].values[own.values].tolist())
        if runs := [run for seed, run in runs_of(at_end, condition).items() if seed in gone]:
            found[condition] = runs
    return found


def named(runs: Sequence[str]) -> str:
    """Return a list of runs in words, followed by "has" or "have".

    >>> named(["a"]), named(["a", "b"]), named(list("abcdef"))
    ('a has', 'a and b have', 'a, b, c, d and 2 more have')
    """
    if len(runs) == 1:
        return f"{runs[0]} has"
    shown = list(runs) if len(runs) <= _NAMED else [*runs[:_NAMED], f"{len(runs) - _NAMED} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]} have"
