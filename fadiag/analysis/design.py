"""How the runs of two results stand to each other: paired by seed, crossed with the feedback's, or not."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["Design", "design_of"]


@dataclass(frozen=True)
class Design:
    """The positions ``at_a`` and ``at_b`` of the runs that are held against each other; pairs in one order.

    ``grid`` holds the places (seed, feedback seed) of a crossed design's pairs. ``reason`` says why a broken
    design allows no interval.
    """

    kind: Literal["paired", "unpaired", "crossed", "broken"]
    at_a: NDArray[np.intp]
    at_b: NDArray[np.intp]
    grid: NDArray[np.intp] | None = None
    reason: str = ""


def design_of(a: xr.Dataset, b: xr.Dataset) -> Design:
    """Tell the design of two results from the coordinates ``seed`` and ``feedback_seed`` of their runs.

    A seed that stands once on each side pairs its runs. Where seeds repeat, runs pair by both seeds: each
    seed with each feedback seed is a crossed design, whose runs are not independent. Some of the combinations
    only, or such runs on one side only, is broken: neither a t interval nor two-way random effects are right
    for it. Runs of unknown or indistinct seeds are unpaired.
    """
    everyone = np.arange(a.sizes["run"]), np.arange(b.sizes["run"])
    for names in (("seed",), ("seed", "feedback_seed")):
        first, second = _keys(a, names), _keys(b, names)
        if first is None or second is None:
            continue
        common = sorted(set(first) & set(second))
        if len(common) < 2:
            break
        at_a, at_b = (np.array([key.index(c) for c in common], np.intp) for key in (first, second))
        if len(names) == 1:
            return Design("paired", at_a, at_b)
        return _crossed(np.array(common), at_a, at_b)
    if any(_share_seeds(side) for side in (a, b)):
        reason = (
            "runs of one side share seeds with each other and do not pair with the other's: "
            "compare runs of one feedback seed"
        )
        return Design("broken", *everyone, None, reason)
    return Design("unpaired", *everyone)


def _share_seeds(side: xr.Dataset) -> bool:
    """Tell whether a side by itself crosses seeds with feedback seeds."""
    keys = _keys(side, ("seed", "feedback_seed"))
    return keys is not None and all(1 < len(set(which)) < len(keys) for which in zip(*keys, strict=True))


def _keys(side: xr.Dataset, names: tuple[str, ...]) -> list[tuple[float, ...]] | None:
    """Return what tells the runs of a side apart; None where it does not, or is unknown."""
    if any(name not in side.coords or side[name].dtype.kind not in "iuf" for name in names):
        return None
    keys = list(zip(*(side[name].values.tolist() for name in names), strict=True))
    unknown = any(np.isnan(value) for key in keys for value in key)
    return None if unknown or len(set(keys)) < len(keys) else keys


def _crossed(keys: NDArray[np.float64], at_a: NDArray[np.intp], at_b: NDArray[np.intp]) -> Design:
    seeds, rows = np.unique(keys[:, 0], return_inverse=True)
    feedbacks, columns = np.unique(keys[:, 1], return_inverse=True)
    if len(seeds) == len(keys) or len(feedbacks) == len(keys):
        return Design("paired", at_a, at_b)
    if len(seeds) * len(feedbacks) == len(keys) and min(len(seeds), len(feedbacks)) >= 2:
        return Design("crossed", at_a, at_b, np.stack([rows, columns], axis=-1))
    reason = (
        f"{len(keys)} of {len(seeds)} x {len(feedbacks)} combinations of seed and feedback seed: "
        "runs share seeds, and the crossed design is not complete"
    )
    return Design("broken", at_a, at_b, None, reason)
