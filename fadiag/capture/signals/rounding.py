"""Measure how much of an update is the rounding of the weight."""

import torch
from torch import Tensor

__all__ = ["ROUNDING_LIMIT", "has_rounding_floor", "rounding_floor"]

#: The share of rounding above which an update is not to be trusted.
ROUNDING_LIMIT = 1e-3

#: The integer type of a float type's bits, and the bits of the exponent.
_EXPONENT_BITS = {
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}


def has_rounding_floor(weight: Tensor, update: Tensor) -> bool:
    """Return whether the rounding floor is defined: for a known float type and an update that is not zero."""
    return weight.dtype in _EXPONENT_BITS and bool(update.any())


def rounding_floor(weight: Tensor, update: Tensor) -> Tensor:
    r"""Return the share of an update that is the rounding of the weight before it.

    An entry of a weight is stored with an error of rms spacing / sqrt(12), where spacing is that of its float
    type. The share is sqrt(sum spacing(W)^2 / 12) / \|update\|_F. Above `ROUNDING_LIMIT` the ranks of the
    update describe the rounding more than the update.

    Parameters
    ----------
    weight : Tensor
        In the type in which it is trained; the store may hold a wider one.
    update : Tensor

    Examples
    --------
    >>> import torch
    >>> round(float(rounding_floor(torch.ones(3), torch.full((3,), 1e-3))) * 1e5, 2)
    3.44
    """
    integers, exponent = _EXPONENT_BITS[weight.dtype]
    # The bits of the exponent alone are the power of two at or below |W|: the spacing divided by eps.
    power = (weight.view(integers) & exponent).view(weight.dtype)
    rounding = torch.linalg.vector_norm(power, dtype=torch.float64) * torch.finfo(weight.dtype).eps / 12**0.5
    share: Tensor = rounding / torch.linalg.vector_norm(update, dtype=torch.float64)
    return share
