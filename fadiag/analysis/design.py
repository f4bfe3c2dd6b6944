"""Find the design of a comparison: runs paired by seed, seeds crossed with feedback seeds, or neither."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.results.provenance import recordings
from fadiag.results.run_labels import is_missing

__all__ = ["Design", "design_of"]


@dataclass(frozen=True)
class Design:
    """The positions ``at_a`` and ``at_b`` of the runs to compare, with pairs in the same order.

    ``grid`` holds the positions (seed, feedback seed) of the pairs of a crossed design. ``reason`` says why a
    broken design allows no interval. ``left_out`` counts the runs without a partner on the other side.
    """

    kind: Literal["paired", "unpaired", "crossed", "broken"]
    at_a: NDArray[np.intp]
    at_b: NDArray[np.intp]
    grid: NDArray[np.intp] | None = None
    reason: str = ""
    left_out: str = ""


def design_of(a: xr.Dataset, b: xr.Dataset, sides: tuple[str, str] = ("a", "b")) -> Design:
    """Return the design of two results, by the coordinates ``seed`` and ``feedback_seed`` of their runs.

    The notes call the results by the names in ``sides``.

    If each seed has one run on each side, runs pair by seed. If seeds repeat, runs pair by both seeds. Each
    seed with each feedback seed is a crossed design, and its runs are not independent. Other runs that share
    some of their seeds (nested, or part of a crossed design) are broken: neither a t interval nor two-way
    random effects are valid for them. A seed that all runs share is a condition of the comparison, if the
    other seed differs between them. Runs of unknown seeds count as independent and unpaired.
    """
    everyone = np.arange(a.sizes["run"]), np.arange(b.sizes["run"])
    for names in (("seed",), ("seed", "feedback_seed")):
        first, second = _keys(a, names), _keys(b, names)
        if first is None or second is None:
            continue
        common = sorted(set(first) & set(second))
        if len(common) < 2:
            break
        left_out = _left_out((a.sizes["run"], b.sizes["run"]), len(common), names, sides)
        at_a, at_b = (np.array([key.index(c) for c in common], np.intp) for key in (first, second))
        grid = _grid(common) if len(names) == 2 else None
        if grid is not None:
            return Design("crossed", at_a, at_b, grid, left_out=left_out)
        reason = _shared(a.isel(run=at_a), sides[0]) or _shared(b.isel(run=at_b), sides[1])
        return Design("broken" if reason else "paired", at_a, at_b, None, reason, left_out)
    reason = _shared(a, sides[0]) or _shared(b, sides[1]) or _on_both(a, b, sides)
    return Design("broken" if reason else "unpaired", *everyone, None, reason)


def _left_out(runs: tuple[int, int], pairs: int, names: tuple[str, ...], sides: tuple[str, str]) -> str:
    """Return a note on the runs of either side without a partner; "" if there are none."""
    gone = [f"{n - pairs} of {n} runs of {side}" for side, n in zip(sides, runs, strict=True) if n > pairs]
    keys = "seed is" if len(names) == 1 else "seeds are"
    return f"{' and '.join(gone)} left out: their {keys} not on the other side" if gone else ""


def _on_both(a: xr.Dataset, b: xr.Dataset, sides: tuple[str, str]) -> str:
    """Return a note if recordings are on both sides without being pairs; "" if not."""
    both = {key for key in recordings(a) if key[0]} & set(recordings(b))
    return (
        f"{len(both)} of the runs of {sides[1]} are in {sides[0]} too, and a run is not "
        "independent of itself: leave them out of one side, or give each run a 'seed' in its meta"
        if both
        else ""
    )


def _shared(side: xr.Dataset, name: str) -> str:
    """Return a note if runs of one side share seeds, so that they are not independent; "" if not."""
    runs = side.sizes["run"]
    counts: dict[str, tuple[int, int]] = {}  # seed -> runs that have one, distinct values
    for what in ("seed", "feedback_seed"):
        values = [str(value) for value in side[what].values] if what in side.coords else []
        known_values = [value for value in values if not is_missing(value)]
        counts[what] = len(known_values), len(set(known_values))
    distinct = any(1 < runs == different for _, different in counts.values())
    for what, (known, different) in counts.items():
        if different < known and not (different == 1 and distinct):
            words = f"{different} {what.replace('_', ' ')}{'s' * (different != 1)}"
            return (
                f"the {runs} runs of {name} have {words} only, and runs that share one are not independent: "
                "compare one run of each, or each seed with each feedback seed on both sides"
            )
    return ""


def _keys(side: xr.Dataset, names: tuple[str, ...]) -> list[tuple[Any, ...]] | None:
    """Return the seeds of each run of a side; None if two runs share them, or if a seed is unknown."""
    if any(name not in side.coords for name in names):
        return None
    keys = list(zip(*(side[name].values.tolist() for name in names), strict=True))
    unknown = any(is_missing(value) for key in keys for value in key)
    return None if unknown or len(set(keys)) < len(keys) else keys


def _grid(keys: Sequence[tuple[Any, ...]]) -> NDArray[np.intp] | None:
    """Return the positions (seed, feedback seed) of a complete crossed design; None for any other design."""
    (seeds, rows), (feedbacks, columns) = (
        np.unique(np.array(column), return_inverse=True) for column in zip(*keys, strict=True)
    )
    if min(len(seeds), len(feedbacks)) < 2 or len(seeds) * len(feedbacks) != len(keys):
        return None
    return np.stack([rows, columns], axis=-1)
