"""The final values of two sets of runs: one number a run, and what a reader must know beside it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.told import of_these_runs

__all__ = ["Finals", "Floats", "finals_of"]

Floats = NDArray[np.float64]
#: Attributes that make numbers of one variable another quantity where they differ, and those worth a word.
_REFUSED = ("definition_version", "samples")
_NOTED = ("probe_mode", "split")


@dataclass(frozen=True)
class Finals:
    """Layer -> the values of the runs of either side at one ``step``; ``note`` is of all layers.

    ``layers`` is empty where the two cannot be compared, and ``note`` says why.
    """

    layers: dict[str, tuple[Floats, Floats]]
    step: int
    note: str


def finals_of(a: xr.DataArray, b: xr.DataArray) -> Finals:
    """Return the values of a variable, (run, layer, step) or (run, step), at the last step of both sides.

    That is the last at which some run of either side has a finite value, of any layer: one step for both,
    since a metric moves with training. A run without a finite number there (it was cut short, or diverged) is
    NaN rather than lend an earlier one.
    """
    if other := _unlike(a, b, _REFUSED):
        return Finals({}, 0, f"not compared: {', '.join(other)}")
    ends = _known(a), _known(b)
    told = f"a ends at step {ends[0][-1]}, b at step {ends[1][-1]}"
    shared = np.intersect1d(*ends)
    if not len(shared):
        return Finals({}, 0, f"not compared: no step at which both have a value ({told})")
    step = int(shared[-1])
    notes = _unlike(a, b, _NOTED)
    if step < max(ends[0][-1], ends[1][-1]):
        notes.append(f"compared at step {step}, the last at which both have a value: {told}")
    at_a, at_b = a.sel(step=step), b.sel(step=step)
    if "layer" not in a.dims:
        layers = {"": (_finite(at_a), _finite(at_b))}
    else:
        common = [layer for layer in a["layer"].values if layer in b["layer"].values]
        if not common:
            return Finals({}, step, "not compared: no layer in common")
        layers = {str(n): (_finite(at_a.sel(layer=n)), _finite(at_b.sel(layer=n))) for n in common}
    return Finals(layers, step, "; ".join(notes))


def _unlike(a: xr.DataArray, b: xr.DataArray, names: tuple[str, ...]) -> list[str]:
    """Say which attributes differ between the sides, or between the runs of one (then a list)."""
    sides = of_these_runs(a), of_these_runs(b)
    told = [(name, *(str(attrs.get(name, "not told")) for attrs in sides)) for name in names]
    return [f"{name} is {x} in a and {y} in b" for name, x, y in told if x != y or ", " in x]


def _known(array: xr.DataArray) -> NDArray[np.int64]:
    """Return the steps at which any run has a finite value, of any layer."""
    known = np.isfinite(array.values).any(axis=tuple(i for i, d in enumerate(array.dims) if d != "step"))
    return np.asarray(array["step"].values[known], np.int64)


def _finite(values: xr.DataArray) -> Floats:
    return np.where(np.isfinite(values.values), values.values, np.nan)
