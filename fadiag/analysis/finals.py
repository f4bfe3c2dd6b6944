"""The final values of two sets of runs: one number a run, and what a reader must know beside it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["Finals", "Floats", "finals_of"]

Floats = NDArray[np.float64]
#: Attributes that make numbers of one variable another quantity where they differ, and those worth a word.
_REFUSED = ("definition_version", "samples")
_NOTED = ("probe_mode", "split")


@dataclass(frozen=True)
class Finals:
    """Layer -> the last values of the runs of either side; ``steps`` are theirs, ``note`` is of all layers.

    ``layers`` is empty where the two cannot be compared, and ``note`` says why.
    """

    layers: dict[str, tuple[Floats, Floats]]
    steps: tuple[int, int]
    note: str


def finals_of(a: xr.DataArray, b: xr.DataArray) -> Finals:
    """Return the values of a variable, (run, layer, step) or (run, step), at the last record of either side.

    A run without a finite number there (it was cut short, or diverged) is NaN rather than lend an earlier
    one. Records at the end at which no run of either side has a value (the update after the last) are passed
    over.
    """
    if other := _unlike(a, b, _REFUSED):
        return Finals({}, (0, 0), f"not compared: {', '.join(other)}")
    back = 1 + min(_without_value(a), _without_value(b))
    ends = [side.isel(step=-back) for side in (a, b)]
    steps = (int(ends[0]["step"]), int(ends[1]["step"]))
    notes = _unlike(a, b, _NOTED)
    if steps[0] != steps[1]:
        notes.append(f"a ends at step {steps[0]}, b at step {steps[1]}")
    if "layer" not in a.dims:
        layers = {"": (_finite(ends[0]), _finite(ends[1]))}
    else:
        common = [layer for layer in a["layer"].values if layer in b["layer"].values]
        if not common:
            return Finals({}, steps, "not compared: no layer in common")
        layers = {str(n): (_finite(ends[0].sel(layer=n)), _finite(ends[1].sel(layer=n))) for n in common}
    return Finals(layers, steps, "; ".join(notes))


def _unlike(a: xr.DataArray, b: xr.DataArray, names: tuple[str, ...]) -> list[str]:
    """Say which attributes differ between the sides, or between the runs of one (then a list)."""
    told = [(name, *(str(side.attrs.get(name, "not told")) for side in (a, b))) for name in names]
    return [f"{name} is {x} in a and {y} in b" for name, x, y in told if x != y or ", " in x]


def _without_value(array: xr.DataArray) -> int:
    """Return how many of the last steps have no finite value of any run and layer; never all of them."""
    known = np.isfinite(array.values).any(axis=tuple(i for i, d in enumerate(array.dims) if d != "step"))
    return int(np.argmax(known[::-1])) if known.any() else len(known) - 1


def _finite(values: xr.DataArray) -> Floats:
    return np.where(np.isfinite(values.values), values.values, np.nan)
