"""Compute singular values in float64 by the cheapest method that is accurate enough for the matrix."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.linalg.lapack import gram, gram_eigenvalues, svd_values
from fadiag.spectra.validate import Floats, as_matrices, scale_exactly

__all__ = ["NARROW", "accurate", "energy_gram", "in_single", "relative_spectra", "singular_values"]

#: From this ratio of the sides on, QR in float64 costs as much as a Gram matrix and is fully accurate.
NARROW = 64
#: Largest allowed relative error of an entropy rank from squaring in the Gram matrix.
_ALLOWED = 5e-7
#: From this number of float32 entries on, products in float32 save more time than their checks cost.
_LARGE = 2**16
#: Up to this exponent of two, a float32 and a sum of its squares stay in float32's range.
_SQUARES = 32
#: Smallest number of products that are summed in float32 before the sum is added in float64.
_BLOCK = 512


def in_single(matrix: NDArray[Any]) -> bool:
    """Return whether a Gram matrix is cheaper in float32: the matrix is float32 and large."""
    return matrix.dtype == np.float32 and matrix.size >= _LARGE


def energy_gram(matrix: NDArray[Any]) -> Floats:
    """Return the smaller Gram matrix, up to a factor, for quantities that the leading directions dominate.

    Large float32 matrices are multiplied in float32 and summed over blocks in float64. tr² / |G|² then has at
    least six digits at half the cost. The tail of the spectrum becomes inaccurate; use `gram` for it.
    """
    if not in_single(matrix):
        return gram(scale_exactly(matrix)[0])
    exponent = int(np.frexp(max(float(matrix.max()), -float(matrix.min())))[1])
    # Squares can leave float32's range, although they stay in float64's.
    scaled = matrix if abs(exponent) <= _SQUARES else np.ldexp(matrix, -exponent)
    wide = scaled if scaled.shape[0] <= scaled.shape[1] else scaled.T
    product = np.empty((len(wide), len(wide)), np.float32)  # reused: new memory costs as much as a product
    total = np.zeros(product.shape)
    length = max(_BLOCK, len(wide) // 2)  # with shorter blocks, the sums cost more than the products
    for start in range(0, wide.shape[1], length):
        block = wide[:, start : start + length]
        total += np.matmul(block, block.T, out=product)
    return total


def singular_values(x: ArrayLike) -> Floats:
    """Return the singular values, largest first.

    Each matrix is scaled by a power of two and converted to float64. Its smaller Gram matrix gives the
    squares. Squaring loses accuracy if many values are far below 1e-8 of the largest. Such matrices, and very
    narrow ones, are decomposed by QR or SVD in float64.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite. Integers and float16 are converted.

    Returns
    -------
    array (..., min(rows, columns)), float64

    Raises
    ------
    InputError
        ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

    Examples
    --------
    >>> singular_values([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    array([4., 3.])
    """
    relative, exponents = relative_spectra(x)
    with np.errstate(over="ignore"):
        values = np.ldexp(relative, exponents[..., None])
    if not np.isfinite(values).all():
        raise InputError(f"x has a singular value beyond float64's range (above 2**{exponents.max()})")
    return np.asarray(values)


def relative_spectra(x: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Return the singular values of each matrix up to a power of two, and the exponent of that power.

    Scale-free quantities such as ranks use these values, which never leave float64's range.
    """
    array = as_matrices(x)
    lead, size = array.shape[:-2], min(array.shape[-2:])
    stack = array.reshape(-1, *array.shape[-2:])
    values, exponents = np.empty((len(stack), size)), np.empty(len(stack), np.int64)
    for i, matrix in enumerate(stack):
        scaled, exponents[i] = scale_exactly(matrix)
        values[i] = _of_matrix(scaled)
    return values.reshape(*lead, size), exponents.reshape(lead)


def _of_matrix(matrix: Floats) -> Floats:
    rows, columns = matrix.shape
    if max(rows, columns) >= NARROW * min(rows, columns):
        tall = matrix if rows >= columns else matrix.T
        return svd_values(np.asarray(np.linalg.qr(tall, mode="r")))
    s = np.sqrt(np.maximum(gram_eigenvalues(matrix)[::-1], 0.0))
    return s if accurate(s) else svd_values(matrix)


def accurate(s: Floats) -> bool:
    """Return whether singular values from a Gram matrix are accurate enough for every rank.

    The bound is for the entropy -sum q ln q with q = s / sum s. Let e be the rounding error of the largest
    eigenvalue. An error e in s_i² is an error of at most min(e / s_i, sqrt(e)) in s_i. It changes the entropy
    by about that error / sum s, times ln(1/q).
    """
    total = s.sum()
    if total == 0.0:
        return True
    error = np.finfo(np.float64).eps * s[0] ** 2
    shift = np.minimum(error / np.maximum(s, np.sqrt(error)), np.sqrt(error)) / total
    return bool((shift * np.log(total / np.maximum(s, np.sqrt(error)))).sum() <= _ALLOWED)
