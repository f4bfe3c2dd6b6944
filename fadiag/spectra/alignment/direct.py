"""Measure the alignment of a weight with the two feedbacks next to it, under direct feedback (DFA)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.alignment.cosine import matrix_cosine
from fadiag.spectra.validate import (
    Floats,
    as_matrices,
    as_share,
    require_finite,
    require_one_stack,
    scale_each,
)

__all__ = ["AlignmentMatrix", "alignment_matrix", "direct_weight_cosine"]


def direct_weight_cosine(weight: ArrayLike, feedback: ArrayLike, feedback_below: ArrayLike) -> Floats:
    """Return the alignment of a weight with the feedbacks of a direct rule: cos(vec W_l, vec F_lᵀ F_{l-1}).

    At the output F_L is the identity: use ``matrix_cosine(W_L, F_{L-1})``.

    Parameters
    ----------
    weight : array_like (..., n_l, n_{l-1})
    feedback : array_like (..., outputs, n_l)
        F_l in delta_l = (delta_L F_l) * phi'.
    feedback_below : array_like (..., outputs, n_{l-1})
        F_{l-1}; leading axes broadcast.

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN where one of the two matrices is all zeros.

    Raises
    ------
    InputError
        The shapes do not fit, or an input is empty, complex, or holds NaN or infinities.

    References
    ----------
    M. Refinetti, S. d'Ascoli, R. Ohana and S. Goldt, "Align, then memorise: the dynamics of learning with
    feedback alignment", ICML 2021.

    Examples
    --------
    >>> import numpy as np
    >>> float(direct_weight_cosine(np.eye(2), np.eye(2), np.diag([1.0, 0.0])).round(6))
    0.707107
    """
    w, above, below = _checked(weight, feedback, feedback_below)
    return matrix_cosine(w, np.swapaxes(scale_each(above)[0], -1, -2) @ scale_each(below)[0])


class AlignmentMatrix(NamedTuple):
    """Alignment matrix, the unexplained share of the weight's change, and the reason for a missing matrix.

    Examples
    --------
    >>> found = alignment_matrix(2 * np.eye(3), np.zeros((3, 3)), np.eye(3), np.eye(3))
    >>> isinstance(found, AlignmentMatrix), found.matrix.shape
    (True, (3, 3))
    """

    matrix: Floats
    residual: Floats
    reason: str


def alignment_matrix(
    weight: ArrayLike,
    weight_init: ArrayLike,
    feedback: ArrayLike,
    feedback_below: ArrayLike,
    *,
    tolerance: float = 0.1,
    rcond: float = 1e-6,
) -> AlignmentMatrix:
    """Return the alignment matrix of a direct rule, A_l = (F_lᵀ)⁺ (W_l - W_l(0)) F_{l-1}⁺, and its residual.

    In a linear net trained by DFA from zero weights, W_l = F_lᵀ A_l F_{l-1} holds exactly. If A_l is close to
    a multiple of the identity, the error is well aligned with backprop's. At the output F_L is the identity.

    Parameters
    ----------
    weight, weight_init : array_like (..., n_l, n_{l-1})
    feedback : array_like (..., outputs, n_l)
    feedback_below : array_like (..., outputs, n_{l-1})
        Leading axes of all four broadcast.
    tolerance : float
        Largest residual at which the matrix is returned.
    rcond : float
        Singular values of F below this share of the largest are left out of F⁺.

    Returns
    -------
    AlignmentMatrix
        ``matrix`` is (..., outputs, outputs), ``residual`` (...) is |dW - F_lᵀ A F_{l-1}|_F / |dW|_F. If the
        residual is above the tolerance, the change does not have this form, and the matrix is NaN.
        ``reason`` explains missing matrices and is otherwise empty. An unchanged weight has A = 0 and
        residual 0.

    Raises
    ------
    InputError
        The shapes do not fit, or an input is empty, complex, or holds NaN or infinities.

    References
    ----------
    As `direct_weight_cosine`.

    Examples
    --------
    >>> import numpy as np
    >>> found = alignment_matrix(2 * np.eye(3), np.zeros((3, 3)), np.eye(3), np.eye(3))
    >>> found.matrix[0].round(9), float(found.residual.round(9)), found.reason
    (array([2., 0., 0.]), 0.0, '')
    """
    w, above, below = _checked(weight, feedback, feedback_below)
    start = as_matrices(weight_init, "weight_init")
    if start.shape[-2:] != w.shape[-2:]:
        raise InputError(
            f"weight has shape {w.shape[-2:]} and weight_init {start.shape[-2:]}; they must be equal"
        )
    require_one_stack(weight=w, weight_init=start, feedback=above, feedback_below=below)
    limit, share = as_share(tolerance, "tolerance"), as_share(rcond, "rcond")
    with np.errstate(over="ignore"):
        change = np.subtract(w, start, dtype=np.float64)
    require_finite(change, "weight - weight_init")
    moved, size = scale_each(change)
    (f, up), (g, down) = scale_each(above), scale_each(below)
    turned = np.swapaxes(f, -1, -2)
    found = np.linalg.pinv(turned, rcond=share) @ moved @ np.linalg.pinv(g, rcond=share)
    left, whole = _norm(moved - turned @ found @ g), _norm(moved)
    residual = np.divide(left, whole, out=np.zeros_like(left), where=whole > 0)
    with np.errstate(over="ignore"):
        matrix = np.ldexp(found, size - up - down)
    require_finite(matrix, "the alignment matrix of weight and its feedbacks")
    missing = np.asarray(residual > limit)
    matrix[missing] = np.nan
    return AlignmentMatrix(matrix, residual, _reason(residual, missing, limit))


def _norm(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.norm(matrix, axis=(-2, -1)))


def _reason(residual: Floats, missing: NDArray[np.bool_], limit: float) -> str:
    if not missing.any():
        return ""
    return (
        f"{np.count_nonzero(missing)} of {missing.size} residuals are above {limit:g} (largest "
        f"{residual.max():.3g}): the weight's change is not of the form F_lᵀ A F_(l-1) there"
    )


def _checked(
    weight: ArrayLike, feedback: ArrayLike, feedback_below: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    w = as_matrices(weight, "weight")
    above, below = as_matrices(feedback, "feedback"), as_matrices(feedback_below, "feedback_below")
    rows, columns = w.shape[-2:]
    if above.shape[-1] != rows or below.shape[-1] != columns or above.shape[-2] != below.shape[-2]:
        raise InputError(
            f"weight has shape {w.shape[-2:]}, feedback {above.shape[-2:]} and feedback_below "
            f"{below.shape[-2:]}; they must be (n, m), (outputs, n) and (outputs, m)"
        )
    require_one_stack(weight=w, feedback=above, feedback_below=below)
    return w, above, below
