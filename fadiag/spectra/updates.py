"""Spectra of updates: what of them the loss asked for, how many directions they explore, the polar factor."""

import numpy as np
from numpy.typing import ArrayLike

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
)

__all__ = ["exploration", "polar_factor", "update_loss"]


def exploration(updates: ArrayLike) -> Floats:
    """Directions that a window of updates explores: participation ratio of the sum of Uᵀ U over its steps.

    Steps of rank one can explore many directions between them: 200 drawn ones reach 49 of 64. Steps count by
    their energy; the side is the feature (right) one. It grows with the window, so name the window.

    Parameters
    ----------
    updates : array_like (..., window, rows, columns)
        One matrix a step.

    Returns
    -------
    array (...), float64
        Between 1 and min(window x rows, columns); 0 where nothing moved.

    Raises
    ------
    InputError
        Where there is no window axis or no step, or as `participation_ratio`.

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
    # The sum of the Grams is the Gram matrix of the updates one below the other.
    *lead, window, rows, columns = array.shape
    return participation_ratio(array.reshape(*lead, window * rows, columns))


def update_loss(update: ArrayLike, weight: ArrayLike, learning_rate: ArrayLike, decay: float) -> Floats:
    """Return the part of an update that comes from the loss: update + learning rate x decay x W.

    Weight decay is full rank and hides the update's: a rank-1 update reads 12 beside 0.01 W.

    Parameters
    ----------
    update : array_like (..., rows, columns)
        W after the step less W before.
    weight : array_like (..., rows, columns)
        W before the step.
    learning_rate : array_like (...)
        One a matrix, not negative; leading axes broadcast.
    decay : float
        Coefficient of W beside the gradient (decoupled decay, or plain SGD's), in [0, 1).

    Returns
    -------
    array (..., rows, columns), float64

    Raises
    ------
    InputError
        Where the shapes do not fit, a coefficient is out of range, or an input is empty, complex, or holds
        NaN or infinities.

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
    if u.shape[-2:] != w.shape[-2:]:
        raise InputError(f"update has shape {u.shape[-2:]} and weight {w.shape[-2:]}; they must be equal")
    rate = rate.astype(np.float64)[..., None, None]
    require_one_stack(update=u, weight=w, learning_rate=rate)
    with np.errstate(over="ignore", invalid="ignore"):
        loss = u + rate * coefficient * w.astype(np.float64)
    require_finite(loss, "update + learning_rate x decay x weight")
    return np.asarray(loss)


def polar_factor(x: ArrayLike, tau: float = 1e-6) -> Floats:
    """Orthogonal polar factor U Vᵀ over the directions with s > tau s_max: what Muon approximates.

    Newton-Schulz iterations do not give it, not even in float64. Directions below tau are rounding, and left
    out rather than raised to 1; state tau beside the number.

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
        As `singular_values`, or where ``tau`` is out of range.

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
