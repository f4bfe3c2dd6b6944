"""Count in words the runs beyond their null."""

from collections.abc import Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.figures.look.theme import label
from fadiag.figures.words.shared import placed
from fadiag.results.null_values import exceeds
from fadiag.store.tools.printable import printable

__all__ = ["beyond_null"]

Floats = NDArray[np.float64]


def beyond_null(
    values: xr.DataArray,
    low: xr.DataArray,
    high: xr.DataArray,
    words: str,
    conditions: Iterable[str],
    *,
    layer: str,
) -> str:
    """Return how many runs of each condition are below and above their null, at the last step and at step 0.

    `values`, `low` and `high` have dims (condition, seed, layer, step), and `low` to `high` is the central
    95 % of the null. Step 0 shows the null of runs in which no feedback has acted.
    """
    if layer not in values["layer"].values:
        return ""
    here = [each.sel(layer=layer).transpose("condition", "seed", "step") for each in (values, low, high)]
    counts = {name: _counts(*(each.sel({"condition": name}).values for each in here)) for name in conditions}
    held = {name: found for name, found in counts.items() if found}
    if not held:
        return ""
    steps = values["step"].values
    # A null may be drawn at fewer steps than its variable.
    last = np.flatnonzero(np.isfinite(here[0].values).any(axis=(0, 1)))[-1]
    head = f"Runs below/above {printable(words)}{placed(printable(layer), '', inside=True)}: "
    ends = {
        name: (found[-1][1:], "" if found[-1][0] == last else f" at step {steps[found[-1][0]]}")
        for name, found in held.items()
    }
    starts = {
        name: (found[0][1:], "") for name, found in held.items() if len(found) > 1 and steps[found[0][0]] == 0
    }
    text = head + _listed(ends)
    return text + (f" (step 0: {_listed(starts)})" if starts else "")


def _listed(counts: dict[str, tuple[tuple[int, int, int], str]]) -> str:
    """Return counts in words; the number of runs and the step are said once if they are one."""
    runs, steps = {found[2] for found, _ in counts.values()}, {when for _, when in counts.values()}
    parts = [
        f"{label(name)} {below}/{above}{f' of {n}' * (len(runs) > 1)}{when * (len(steps) > 1)}"
        for name, ((below, above, n), when) in counts.items()
    ]
    return ", ".join(parts) + f" of {min(runs)}" * (len(runs) == 1) + min(steps) * (len(steps) == 1)


def _counts(values: Floats, low: Floats, high: Floats) -> list[tuple[int, int, int, int]]:
    """Return (step's place, below, above, runs) at the first and the last step with values and null."""
    known = np.isfinite(values) & np.isfinite(low) & np.isfinite(high)
    places = np.flatnonzero(known.any(axis=0))
    ends = dict.fromkeys(places[[0, -1]].tolist()) if places.size else ()
    return [(place, *_count(values, low, high, known, place)) for place in ends]


def _count(
    values: Floats, low: Floats, high: Floats, known: NDArray[np.bool_], place: int
) -> tuple[int, int, int]:
    runs = known[:, place]
    value, below, above = (xr.DataArray(each[runs, place]) for each in (values, low, high))
    return int(exceeds(below, value).sum()), int(exceeds(value, above).sum()), int(runs.sum())
