"""Replace what is rounding error by zero, before values are compared."""

from dataclasses import replace

import numpy as np

from fadiag.results.final_values import BothSides, Floats

__all__ = ["ROUNDING", "without_noise", "without_rounding"]

#: Signals are recorded in float32, so a difference below this share of the values is rounding.
ROUNDING = float(np.finfo(np.float32).eps)
#: A part of a variable's name -> the size of a value that is not small: 1, or a right angle in degrees.
_UNITS = {"cosine": 1.0, "overlap": 1.0, "angle": 90.0}


def without_noise(finals: BothSides, name: str) -> BothSides:
    """Return final values with zeros for those that are rounding errors of the unit of their variable."""
    unit = next((size for word, size in _UNITS.items() if word in name), 0.0)
    layers = {
        layer: (_zeroed(x, ROUNDING * unit), _zeroed(y, ROUNDING * unit))
        for layer, (x, y) in finals.layers.items()
    }
    return replace(finals, layers=layers)


def _zeroed(values: Floats, smallest: float) -> Floats:
    return np.where(np.abs(values) <= smallest, 0.0, values)


def without_rounding(differences: Floats, x: Floats, y: Floats) -> Floats:
    """Return differences between two sides with zeros for those that are rounding errors of the values."""
    values = np.abs(np.concatenate([x, y]))
    smallest = ROUNDING * values.max(initial=0, where=~np.isnan(values))
    return _zeroed(differences, smallest)
