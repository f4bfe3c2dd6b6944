"""Measure how much of a weight update is rounding error."""

import torch
from torch import Tensor

from fadiag import spectra
from fadiag.capture.signals.arrays import to_arrays
from fadiag.errors import InputError

__all__ = ["rounding_floor_of"]


def rounding_floor_of(weight: Tensor, update: Tensor) -> float | None:
    """Return `fadiag.spectra.rounding_floor` of a weight and its update, in the weight's precision.

    Return None if the weight did not change, for example if it is frozen. Return NaN if the weight or the
    update is not finite.

    Examples
    --------
    >>> round(rounding_floor_of(torch.ones(3), torch.full((3,), 1e-3)) * 1e5, 2)
    3.44
    """
    if not (weight.is_floating_point() and update.any()):
        return None
    before, moved = (array.reshape(1, -1) for array in to_arrays([weight, update]))
    try:
        return float(spectra.rounding_floor(before, moved, eps=torch.finfo(weight.dtype).eps))
    except InputError:  # the weight or the update is not finite
        return float("nan")
