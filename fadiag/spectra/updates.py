"""Measure weight updates: explored directions, shares of decay and rounding, and the polar factor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.ranks.participation import participation_ratio
from fadiag.spectra.validate import (
    Floats,
    as_matrices,
    as_real,
    as_share,
    require_finite,
    require_one_stack,
    scale_each,
    scale_exactly,
)

__all__ = ["ROUNDING_LIMIT", "exploration", "polar_factor", "rounding_floor", "update_loss"]

#: Above this share of rounding, the ranks of an update mostly describe rounding.
ROUNDING_LIMIT = 1e-3

#: Masks for the exponent bits of a number. These bits alone are the power of two at or below the number.
_EXPONENT_BITS: Mapping[np.dtype[Any], Any] = {
    np.dtype(np.float32): np.int32(0x7F800000),
    np.dtype(np.float64): np.int64(0x7FF0000000000000),
}


def exploration(updates: ArrayLike) -> Floats:
    """Return the number of directions in a window of updates: participation ratio of sum Uᵀ U over steps.

    Many steps of rank one explore many directions: 200 random steps reach 49 of 64. Each step is weighted by
    its energy. Directions are feature directions (right side). The value grows with the window, so report
    the window too.

    Parameters
    ----------
    updates : array_like (..., window, rows, columns)
        One matrix per step.

    Returns
    -------
    array (...), float64
        Between 1 and min(window x rows, columns); 0 if all updates are zero.

    Raises
    ------
    InputError
        The window axis is missing or empty, or as `participation_ratio`.

    Examples
    --------
    >>> import numpy as np
    >>> float(exploration(np.eye(4)[:, None, :]).round(12))
    4.0
    """
    array = as_real(updates, "updates")
    if array.ndim < 3 or 0 in array.shape[-3:]:
        raise InputError(
            f"updates has shape {array.shape}; it must be (..., window, rows, columns), none of them empty"
        )
    require_finite(array, "updates")
    # The sum of the Gram matrices is the Gram matrix of the stacked updates.
    *lead, window, rows, columns = array.shape
    return participation_ratio(array.reshape(*lead, window * rows, columns))


def rounding_floor(weight: ArrayLike, update: ArrayLike, *, eps: float | None = None) -> Floats:
    """Return the share of an update that is rounding of the weight.

    sqrt(sum spacing(W)² / 12) / |dW|_F: each entry of a stored weight has an rms error of spacing / sqrt(12).
    Do not trust the ranks of an update whose share is above `ROUNDING_LIMIT`.

    Parameters
    ----------
    weight : array_like (..., rows, columns)
        W, in the float type of the training.
    update : array_like (..., rows, columns)
        W after the step minus W before.
    eps : float, optional
        Spacing of that float type at 1, if the weight was widened later (bfloat16 to float32).

    Returns
    -------
    array (...), float64
        NaN if the update is all zeros.

    Raises
    ------
    InputError
        The shapes do not fit, ``eps`` is not in [0, 1), or an input is empty, complex, or holds NaN or
        infinities.

    Examples
    --------
    >>> import numpy as np
    >>> float((rounding_floor(np.ones((1, 3), np.float32), np.full((1, 3), 1e-3)) * 1e5).round(2))
    3.44
    """
    w, u = as_matrices(weight, "weight"), as_matrices(update, "update")
    _same_shape(u, w)
    spacing = float(np.finfo(w.dtype).eps) if eps is None else as_share(eps, "eps")
    w, u = np.broadcast_arrays(w, u)
    shares = np.full(w.shape[:-2], np.nan)
    for index in np.ndindex(shares.shape):
        (before, up), (moved, down) = _in_range(w[index]), _in_range(u[index])
        bits = _EXPONENT_BITS[before.dtype]
        size = _norm((before.view(bits.dtype) & bits).view(before.dtype))
        if (step := _norm(moved)) > 0:
            with np.errstate(over="ignore"):
                shares[index] = np.ldexp(spacing / 12**0.5 * size / step, up - down)
    return shares


def _in_range(matrix: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Scale by a power of two so that squares stay in float64's range; float32 needs no scaling."""
    return (matrix, 0) if matrix.dtype == np.float32 else scale_exactly(matrix)


def _norm(matrix: NDArray[Any]) -> float:
    """Return the Frobenius norm, summed in float64 without copying the matrix."""
    return float(np.sqrt(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64)))


def _same_shape(update: NDArray[Any], weight: NDArray[Any]) -> None:
    if update.shape[-2:] != weight.shape[-2:]:
        raise InputError(
            f"update has shape {update.shape[-2:]} and weight {weight.shape[-2:]}; they must be equal"
        )
    require_one_stack(update=update, weight=weight)


def update_loss(update: ArrayLike, weight: ArrayLike, learning_rate: ArrayLike, decay: float) -> Floats:
    """Return the part of an update that comes from the loss: update + learning rate x decay x W.

    Weight decay has full rank and hides the rank of the update: a rank-1 update plus 0.01 W is measured as
    rank 12. A recorded run does not hold the learning rate of each step, so `fadiag.analyze` cannot call this
    function.

    Parameters
    ----------
    update : array_like (..., rows, columns)
        W after the step minus W before.
    weight : array_like (..., rows, columns)
        W before the step.
    learning_rate : array_like (...)
        One value per matrix, not negative; leading axes broadcast.
    decay : float
        Coefficient of weight decay (decoupled, or in plain SGD), in [0, 1).

    Returns
    -------
    array (..., rows, columns), float64

    Raises
    ------
    InputError
        The shapes do not fit, a coefficient is out of range, or an input is empty, complex, or holds NaN or
        infinities.

    Examples
    --------
    >>> update_loss([[-0.3, 0.0]], [[2.0, 0.0]], 0.1, 0.5).round(12)
    array([[-0.2,  0. ]])
    """
    u, w = as_matrices(update, "update"), as_matrices(weight, "weight")
    rate, coefficient = as_real(learning_rate, "learning_rate"), as_share(decay, "decay")
    require_finite(rate, "learning_rate")
    if (rate < 0).any():
        raise InputError(f"learning_rate goes down to {rate.min()}; it must not be negative")
    _same_shape(u, w)
    rate = rate.astype(np.float64)[..., None, None]
    require_one_stack(update=u, weight=w, learning_rate=rate)
    with np.errstate(over="ignore", invalid="ignore"):
        loss = u + rate * coefficient * w.astype(np.float64)
    require_finite(loss, "update + learning_rate x decay x weight")
    return np.asarray(loss)


def polar_factor(x: ArrayLike, tau: float = 1e-6) -> Floats:
    """Return the orthogonal polar factor U Vᵀ over the directions with s > tau s_max.

    Muon approximates this matrix. Its Newton-Schulz iterations do not reach it, not even in float64.
    Directions below tau are rounding: they are left out, not raised to 1. Report tau with the result.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.
    tau : float
        Share of the largest singular value, in [0, 1).

    Returns
    -------
    array (..., rows, columns), float64
        Zeros for a matrix of zeros.

    Raises
    ------
    InputError
        As `singular_values`, or ``tau`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> np.abs(polar_factor([[3.0, 0.0], [0.0, 1e-9]]).round(12))
    array([[1., 0.],
           [0., 0.]])
    """
    scaled = scale_each(as_matrices(x))[0]
    share = as_share(tau, "tau")
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray((u * (s > share * s[..., :1])[..., None, :]) @ vt)
