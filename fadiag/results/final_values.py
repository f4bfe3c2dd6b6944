"""Return the values at the end of training, at one step for all runs that are compared.

Metrics change during training, so runs are compared at the last step that all conditions have. A run without
a finite value at that step (it was cut short, or diverged) is NaN. No earlier value replaces it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.results.by_condition import of_condition
from fadiag.results.possible import is_rank, living
from fadiag.results.provenance import of_these_runs

__all__ = ["BothSides", "Floats", "final_values", "final_values_of_both"]

Floats = NDArray[np.float64]

#: If these attributes differ, the values are different quantities and are not compared.
_REFUSED = ("definition_version", "samples", "k")
#: If these attributes differ, a note says so.
_NOTED = ("probe_mode", "split")


class _LastSteps(NamedTuple):
    """The last step that all arrays share, and the last step of each; -1 if there is no such step."""

    shared: int
    each: tuple[int, ...]


def final_values(array: xr.DataArray, conditions: Sequence[str] = ()) -> xr.DataArray:
    """Return the values at the end of training: the last step at which every condition has a value.

    Conditions that were trained for longer are read at the last step of the shortest one. A condition without
    any finite value is ignored.

    Parameters
    ----------
    array : DataArray
        From `by_condition`, with the dimension ``step``.
    conditions : sequence of str
        The conditions to compare; by default all of them.

    Returns
    -------
    DataArray
        Without the dimension ``step``. The coordinate ``step`` is the step of the values. It is -1, and all
        values are NaN, if the conditions share no step. The coordinate ``last_step`` along condition is the
        last step at which each has a value. ``recorded_until`` is the last recorded step. A rank of a dead
        layer is NaN, and the coordinate ``dead`` marks it.

    Examples
    --------
    >>> curves = xr.DataArray(
    ...     [[[1.0, 2.0, np.nan]], [[3.0, 4.0, 5.0]]],
    ...     dims=("condition", "seed", "step"),
    ...     coords={"condition": ["bp", "fa"], "step": [0, 10, 20]},
    ... )
    >>> end = final_values(curves)
    >>> end.values.tolist(), int(end["step"]), end["last_step"].values.tolist()
    ([[2.0], [4.0]], 10, [10, 20])
    """
    if conditions:
        array = array.sel({"condition": list(conditions)})
    ends = _last_steps([of_condition(array, name) for name in array["condition"].values])
    until = array.attrs.get("recorded_until", int(array["step"].values[-1]))
    coords = {"last_step": ("condition", list(ends.each)), "recorded_until": until}
    values = _values_at(array, ends.shared).assign_coords(coords).assign_attrs(array.attrs)
    return living(values).assign_coords(dead=values == 0) if is_rank(array.name) else values


@dataclass(frozen=True)
class BothSides:
    """The final values of two sets of runs, by layer, at one ``step``, with a ``note`` on all layers.

    If the two sets cannot be compared, ``layers`` is empty and ``note`` says why.
    """

    layers: dict[str, tuple[Floats, Floats]]
    step: int
    note: str


def final_values_of_both(a: xr.DataArray, b: xr.DataArray, names: tuple[str, str] = ("a", "b")) -> BothSides:
    """Return the final values of a variable in two results, with dims (run, layer, step) or (run, step).

    The step is the last one at which both results have a finite value, in any run and layer. The note calls
    the results by their ``names``.

    Examples
    --------
    >>> a = xr.DataArray([[1.0, 2.0], [3.0, np.inf]], {"step": [0, 10]}, ("run", "step"))
    >>> found = final_values_of_both(a, a.isel(run=[0]))
    >>> found.step, *(side.tolist() for side in found.layers[""])
    (10, [2.0, nan], [2.0])
    """
    if other := _unlike(a, b, _REFUSED, names):
        return BothSides({}, 0, f"not compared: {', '.join(other)}")
    step, last = _last_steps([a, b])
    ends = f"{names[0]} ends at step {last[0]}, {names[1]} at step {last[1]}"
    if step < 0:
        return BothSides({}, 0, f"not compared: no step at which both have a value ({ends})")
    notes = _unlike(a, b, _NOTED, names)
    if step < max(last):
        notes.append(f"compared at step {step}, the last at which both have a value: {ends}")
    at_a, at_b = _values_at(a, step), _values_at(b, step)
    if "layer" not in a.dims:
        return BothSides({"": (at_a.values, at_b.values)}, step, "; ".join(notes))
    common = [layer for layer in a["layer"].values if layer in b["layer"].values]
    if not common:
        return BothSides({}, step, "not compared: no layer in common")
    # By position in plain arrays, since selecting each layer by its label costs more than all the rest.
    places = [{layer: i for i, layer in enumerate(side["layer"].values)} for side in (a, b)]
    sides = [side.transpose("layer", ...).values for side in (at_a, at_b)]
    layers = {str(layer): (sides[0][places[0][layer]], sides[1][places[1][layer]]) for layer in common}
    return BothSides(layers, step, "; ".join(notes))


def _last_steps(arrays: Sequence[xr.DataArray]) -> _LastSteps:
    """Return the last steps; an array without a finite value does not affect the shared one."""
    steps = []
    for array in arrays:
        finite = np.isfinite(array.transpose("step", ...).values)
        steps.append(array["step"].values[finite.any(axis=tuple(range(1, finite.ndim)))])
    having = [each for each in steps if each.size]
    shared = reduce(np.intersect1d, having) if having else np.empty(0, np.int64)
    return _LastSteps(_last(shared), tuple(map(_last, steps)))


def _last(steps: NDArray[np.int64]) -> int:
    return int(steps[-1]) if steps.size else -1


def _values_at(array: xr.DataArray, step: int) -> xr.DataArray:
    """Return the values at a step, with NaN for values that are not finite; at step -1 all are NaN."""
    if step < 0:
        return array.isel(step=-1).where(False).assign_coords(step=step)
    values = array.sel(step=step)
    return values.where(np.isfinite(values))


def _unlike(
    a: xr.DataArray, b: xr.DataArray, attributes: tuple[str, ...], sides: tuple[str, str]
) -> list[str]:
    """Return a note for each attribute that differs between the sides, or between the runs of one side."""
    both = of_these_runs(a), of_these_runs(b)
    found = [(name, *(str(attrs.get(name, "not stated")) for attrs in both)) for name in attributes]
    return [
        f"{name} is {x} in {sides[0]} and {y} in {sides[1]}" for name, x, y in found if x != y or ", " in x
    ]
