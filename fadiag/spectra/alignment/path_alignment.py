"""Alignment of whole paths: the product of the weights against the product of the feedbacks."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.alignment.cosine import matrix_cosine
from fadiag.spectra.validate import Floats, as_matrices, require_one_stack, scale_each

__all__ = ["jacobian_alignment", "path_alignment"]


def path_alignment(weights: Sequence[ArrayLike], feedbacks: Sequence[ArrayLike]) -> Floats:
    """Cosine of the product of the weights above a layer with the product of their feedbacks.

    cos(vec W_L ... W_{l+1}, vec B_L ... B_{l+1}): what the layer's modulator is made with in a linear net.
    With nonlinearities take `jacobian_alignment`.

    Parameters
    ----------
    weights : sequence of array_like (..., out, in)
        In forward order, W_{l+1} first and W_L last.
    feedbacks : sequence of array_like (..., out, in)
        Likewise. A direct rule's path is one matrix, ``[F_l]`` of shape (outputs, n_l).

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN where a product is all zeros.

    Raises
    ------
    InputError
        Where a sequence is empty, a matrix does not fit the next or the two products differ in shape, or
        where an input is empty, complex, or holds NaN or infinities.

    Examples
    --------
    >>> import numpy as np
    >>> first, last = np.eye(3), np.array([[1.0, 1.0, 0.0]])
    >>> float(path_alignment([first, last], [np.array([[1.0, 0.0, 0.0]])]).round(6))
    0.707107
    """
    forward, backward = _product(weights, "weights"), _product(feedbacks, "feedbacks")
    if forward.shape[-2:] != backward.shape[-2:]:
        raise InputError(
            f"the product of weights has shape {forward.shape[-2:]} and that of feedbacks "
            f"{backward.shape[-2:]}; they must be equal"
        )
    require_one_stack(weights=forward, feedbacks=backward)
    return matrix_cosine(forward, backward)


def _product(factors: Sequence[ArrayLike], name: str) -> Floats:
    """Return the product of matrices in forward order, up to a positive factor."""
    if len(factors) == 0:
        raise InputError(f"{name} holds no matrix; give those above the layer, the nearest first")
    whole: Floats | None = None
    for i, factor in enumerate(factors):
        matrix = scale_each(as_matrices(factor, f"{name}[{i}]"))[0]
        if whole is None:
            whole = matrix
            continue
        if matrix.shape[-1] != whole.shape[-2]:
            raise InputError(
                f"{name}[{i}] has {matrix.shape[-1]} columns and what lies below it {whole.shape[-2]} rows; "
                "matrices are (out, in), the nearest to the layer first"
            )
        require_one_stack(**{f"{name}[:{i}]": whole, f"{name}[{i}]": matrix})
        whole = scale_each(matrix @ whole)[0]
    assert whole is not None
    return whole


def jacobian_alignment(true: ArrayLike, feedback: ArrayLike) -> Floats:
    """Alignment of a layer's two backward maps: <J_W, J_B>_F / (|J_W|_F |J_B|_F).

    It tells the feedback from the statistics of the error, which both share. J is one sample's map from the
    outputs to the layer: exact by one backward a row of the identity, or estimated by drawn output vectors,
    whose backward signals are then the rows (E v vᵀ = 1 keeps the inner product in the mean).

    Parameters
    ----------
    true, feedback : array_like (..., outputs, units)
        Backward maps with W and with B; leading axes (steps, samples) broadcast.

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN where one map is all zeros, a dead sample; see `matrix_cosine`.

    Raises
    ------
    InputError
        Where the shapes do not fit, or an input is empty, complex, or holds NaN or infinities.

    Examples
    --------
    >>> import numpy as np
    >>> float(jacobian_alignment(np.eye(2), np.diag([1.0, 0.0])).round(6))
    0.707107
    """
    j_true, j_feedback = as_matrices(true, "true"), as_matrices(feedback, "feedback")
    if j_true.shape[-2:] != j_feedback.shape[-2:]:
        raise InputError(
            f"true has shape {j_true.shape[-2:]}, feedback {j_feedback.shape[-2:]}; they must be equal"
        )
    require_one_stack(true=j_true, feedback=j_feedback)
    return matrix_cosine(j_true, j_feedback)
