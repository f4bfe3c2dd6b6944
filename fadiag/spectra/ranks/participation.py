"""Participation ratio: the ranks that need traces only, no decomposition."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.linalg.lapack import gram
from fadiag.spectra.linalg.singular import energy_gram
from fadiag.spectra.validate import Floats, as_matrices, as_spectra, scale_exactly, unit_peak

__all__ = [
    "effective_samples",
    "participation_ratio",
    "participation_ratio_debiased",
    "participation_ratio_of_spectrum",
]


def _each(array: NDArray[Any], function: Callable[[Floats], float]) -> Floats:
    """Apply a function that does not know scale to each matrix, scaled and in float64."""
    stack = array.reshape(-1, *array.shape[-2:])
    return np.array([function(scale_exactly(m)[0]) for m in stack], dtype=np.float64).reshape(
        array.shape[:-2]
    )


def participation_ratio(x: ArrayLike) -> Floats:
    """Participation ratio: (sum s²)² / sum s⁴ = tr(G)² / |G|_F², G the smaller Gram matrix.

    Right to 1e-6 for large float32 matrices, to rounding elsewhere. It depends on the number of rows: compare
    only matrices of equal N, or use `participation_ratio_debiased`. A matrix of zeros has the value 0.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        Where ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

    References
    ----------
    P. Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", bioRxiv 214262, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> float(participation_ratio(np.eye(5)))
    5.0
    """
    array = as_matrices(x)
    stack = array.reshape(-1, *array.shape[-2:])
    return np.array([_ratio(energy_gram(m)) for m in stack], dtype=np.float64).reshape(array.shape[:-2])


def _ratio(g: Floats) -> float:
    total = np.trace(g)
    return float(total**2 / np.vdot(g, g)) if total > 0 else 0.0


def participation_ratio_of_spectrum(s: ArrayLike) -> Floats:
    """Participation ratio from singular values (..., k); see `participation_ratio`.

    Examples
    --------
    >>> float(participation_ratio_of_spectrum([2.0, 2.0, 0.0]))
    2.0
    """
    p = np.square(unit_peak(as_spectra(s)))
    fourth = np.square(p).sum(axis=-1)
    total = p.sum(axis=-1) ** 2
    return np.asarray(np.divide(total, fourth, out=np.zeros_like(fourth), where=fourth > 0))


def participation_ratio_debiased(x: ArrayLike) -> Floats:
    """Participation ratio of the population that the rows are a sample of.

    [(sum K_ii)² - sum K_ii²] / [sum_ij K_ij² - sum K_ii²] with K = X Xᵀ: products of different rows only.
    Infinite where all rows are orthogonal (the sample bounds the dimension from below only); 0 for a matrix
    of zeros; NaN where one row alone is not zero, since no pair of rows tells anything then.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Rows are independent samples; at least two.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        Where there is one row, or as `participation_ratio`.

    References
    ----------
    Chun et al., arXiv 2509.26560.

    Examples
    --------
    >>> float(participation_ratio_debiased([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).round(12))
    3.0
    """
    array = as_matrices(x)
    if array.shape[-2] < 2:
        raise InputError(f"x has shape {array.shape}; the debiased estimate needs at least two rows")
    return _each(array, _debiased)


def _debiased(matrix: Floats) -> float:
    diagonal = np.einsum("ij,ij->i", matrix, matrix)
    alive = np.count_nonzero(diagonal)
    if alive < 2:
        return np.nan if alive else 0.0
    rows, columns = matrix.shape
    g = gram(matrix)
    if rows <= columns:
        np.fill_diagonal(g, 0.0)  # rather than a difference of two nearly equal sums
        pairs = float(np.vdot(g, g))
        # Orthogonal rows leave the rounding of their products.
        pairs = pairs if pairs > (np.finfo(np.float64).eps * columns * diagonal.sum()) ** 2 else 0.0
    else:
        pairs = float(np.vdot(g, g) - np.vdot(diagonal, diagonal))
        # Orthogonal rows leave the rounding of the difference.
        pairs = pairs if pairs > np.finfo(np.float64).eps * rows * np.vdot(g, g) else 0.0
    return float((diagonal.sum() ** 2 - np.vdot(diagonal, diagonal)) / pairs) if pairs > 0 else np.inf


def effective_samples(x: ArrayLike) -> Floats:
    """Effective number of rows that carry the energy: (sum |x_i|²)² / sum |x_i|⁴.

    It bounds the participation ratio from above. A matrix of zeros has the value 0.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        As `participation_ratio`.

    Examples
    --------
    >>> float(effective_samples([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    2.0
    """
    return _each(as_matrices(x), _samples)


def _samples(matrix: Floats) -> float:
    energy = np.einsum("ij,ij->i", matrix, matrix)
    total = energy.sum()
    return float(total**2 / np.vdot(energy, energy)) if total > 0 else 0.0
