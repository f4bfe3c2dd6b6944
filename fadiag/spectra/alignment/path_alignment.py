"""Compare whole paths: the product of the weights with the product of the feedbacks."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.alignment.cosine import matrix_cosine
from fadiag.spectra.validate import Floats, as_matrices, require_one_stack, scale_each

__all__ = ["path_alignment"]


def path_alignment(weights: Sequence[ArrayLike], feedbacks: Sequence[ArrayLike]) -> Floats:
    """Return the cosine of the product of weights above a layer with the product of their feedbacks.

    cos(vec W_L ... W_{l+1}, vec B_L ... B_{l+1}): in a linear net these products form the layer's modulator.
    With nonlinearities, use `matrix_cosine` of the two backward maps (outputs x units) of each sample.

    Parameters
    ----------
    weights : sequence of array_like (..., out, in)
        In forward order, W_{l+1} first and W_L last.
    feedbacks : sequence of array_like (..., out, in)
        In the same order. The path of a direct rule is one matrix, ``[F_l]`` of shape (outputs, n_l).

    Returns
    -------
    array (...), float64, in [-1, 1]
        NaN if a product is all zeros.

    Raises
    ------
    InputError
        A sequence is empty, a matrix does not fit the next, the two products differ in shape, or an input is
        empty, complex, or holds NaN or infinities.

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
