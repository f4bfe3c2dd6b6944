"""Compute an orthonormal basis of the leading right (feature side) directions of a matrix."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.spectra.linalg.lapack import gram_eigenvectors
from fadiag.spectra.validate import Floats, as_count, as_matrices, scale_exactly

__all__ = ["SMALL", "clear_of_rounding", "right_basis", "right_of_gram"]

#: Below this size a full SVD costs no more than eigenvectors of the Gram matrix.
SMALL = 32
#: Directions below this share of the largest singular value need an SVD.
_CLEAR = 1e-3


def right_basis(x: ArrayLike, k: int) -> Floats:
    """Return the leading k right singular vectors as orthonormal columns.

    A matrix of numerical rank r < k has only r directions. The remaining columns are zeros, not an arbitrary
    completion.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.
    k : int
        Number of directions, between 1 and min(rows, columns).

    Returns
    -------
    array (..., columns, k), float64
        Each direction is contiguous in memory, which makes `overlap_of_bases` fast.

    Raises
    ------
    InputError
        ``k`` is out of range, or as `singular_values`.

    Examples
    --------
    >>> import numpy as np
    >>> np.abs(right_basis([[0.0, 2.0], [0.0, 0.0]], 2))
    array([[0., 0.],
           [1., 0.]])
    """
    array = as_matrices(x)
    rows, columns = array.shape[-2:]
    k = as_count(k, "k", 1, min(rows, columns))
    stack = array.reshape(-1, rows, columns)
    directions = np.empty((len(stack), k, columns))
    for i, matrix in enumerate(stack):
        scaled, leading = scale_exactly(matrix)[0], None
        if min(rows, columns) >= SMALL:
            leading = right_of_gram(scaled, *gram_eigenvectors(scaled, k), clear_of_rounding(matrix))
        directions[i] = _by_svd(scaled, k, _rounding(matrix)).T if leading is None else leading.T
    return np.swapaxes(directions.reshape(*array.shape[:-2], k, columns), -1, -2)


def _rounding(matrix: NDArray[Any]) -> float:
    return float(np.finfo(matrix.dtype).eps * max(matrix.shape))


def clear_of_rounding(matrix: NDArray[Any]) -> float:
    """Return the share of the largest singular value above which a Gram matrix resolves a direction."""
    return max(_rounding(matrix), _CLEAR)


def _by_svd(matrix: Floats, k: int, rounding: float) -> Floats:
    # A tall matrix and its triangular factor have the same right singular vectors.
    rows, columns = matrix.shape
    reduced = np.linalg.qr(matrix, mode="r") if rows > columns else matrix
    _, s, vt = np.linalg.svd(reduced, full_matrices=False)
    return np.asarray((vt[:k] * (s[:k, None] > rounding * s[0])).T)


def right_of_gram(matrix: Floats, squares: Floats, vectors: Floats, clear: float) -> Floats | None:
    """Return the right directions for the leading eigenvectors of the smaller Gram matrix, largest first.

    Return None if the last direction is near the rounding level. Squaring multiplies the error of a direction
    by s_1 / s_k, and ``clear`` bounds this factor.
    """
    if not squares[-1] > clear**2 * squares[0]:
        return None
    if matrix.shape[0] > matrix.shape[1]:
        return vectors
    # Map left vectors to right ones. The largest come first, so QR removes their errors from the smaller.
    return np.asarray(np.linalg.qr(matrix.T @ vectors).Q)
