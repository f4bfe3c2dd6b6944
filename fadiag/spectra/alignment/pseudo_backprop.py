"""Compute pseudo-backprop: the credit signal that the pseudo-inverse of the forward weight would send."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import (
    Floats,
    as_matrices,
    as_share,
    require_finite,
    require_one_stack,
    scale_each,
)

__all__ = ["PINV_RCOND", "pseudo_backprop"]

#: Singular values below this share of the largest count as zero. Report it with the result.
PINV_RCOND = 1e-6


def pseudo_backprop(delta: ArrayLike, weight: ArrayLike, rcond: float = PINV_RCOND) -> Floats:
    """Return the modulator of the layer below under pseudo-backprop: delta (W⁺)ᵀ, before that layer's phi'.

    Under feedback alignment, a linear net's modulator becomes closer to this one than to backprop's delta W.
    Compare the modulator with it by `cosine` or `angle`. At the layer below a linear output it is Lillicrap's
    quantity; at deeper layers it is only a local one.

    Parameters
    ----------
    delta : array_like (..., samples, out)
        Error of the layer above, after its phi'.
    weight : array_like (..., out, in)
        Forward weight of the layer above; leading axes broadcast.
    rcond : float
        Directions of W below this share of the largest singular value are left out of W⁺.

    Returns
    -------
    array (..., samples, in), float64

    Raises
    ------
    InputError
        The shapes do not fit, ``rcond`` is not in [0, 1), or an input is empty, complex, or holds NaN or
        infinities.

    References
    ----------
    T. P. Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep
    learning", Nature Communications 7, 13276, 2016.

    Examples
    --------
    >>> pseudo_backprop([[1.0, 1.0]], [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    array([[0.5 , 0.25, 0.  ]])
    """
    error, forward = as_matrices(delta, "delta"), as_matrices(weight, "weight")
    if error.shape[-1] != forward.shape[-2]:
        raise InputError(
            f"delta has {error.shape[-1]} columns and weight {forward.shape[-2]} rows; "
            "both are the units of the layer above"
        )
    require_one_stack(delta=error, weight=forward)
    share = as_share(rcond, "rcond")
    (e, up), (w, down) = scale_each(error), scale_each(forward)
    inverse = np.linalg.pinv(w, rcond=share)
    with np.errstate(over="ignore"):
        sent = np.ldexp(e @ np.swapaxes(inverse, -1, -2), up - down)
    require_finite(sent, "delta times the pseudo-inverse of weight")
    return np.asarray(sent)
