"""Compute participation ratios: ranks that need only traces and no decomposition."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.linalg.lapack import gram
from fadiag.spectra.linalg.singular import energy_gram
from fadiag.spectra.validate import Floats, as_matrices, as_spectra, scale_exactly, unit_peak

__all__ = [
    "debiased_of_sums",
    "effective_samples",
    "participation_ratio",
    "participation_ratio_debiased",
    "participation_ratio_of_spectrum",
]


def _each(array: NDArray[Any], function: Callable[[Floats], float]) -> Floats:
    """Apply a scale-free function to each matrix, scaled and in float64."""
    stack = array.reshape(-1, *array.shape[-2:])
    return np.array([function(scale_exactly(m)[0]) for m in stack], dtype=np.float64).reshape(
        array.shape[:-2]
    )


def participation_ratio(x: ArrayLike) -> Floats:
    """Return the participation ratio (sum s²)² / sum s⁴ = tr(G)² / |G|_F², G the smaller Gram matrix.

    It is accurate to 1e-6 for large float32 matrices, and to rounding for others. It depends on the number of
    rows N: compare only matrices of equal N, or use `participation_ratio_debiased`. A matrix of zeros has the
    value 0.

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
        ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

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
    """Return the participation ratio from singular values (..., k); see `participation_ratio`.

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
    """Return the participation ratio (tr Σ)² / tr Σ² of the population from which the rows are sampled.

    Σ is the covariance, so the mean row does not count. Numerator and denominator are each estimated without
    bias. K is the Gram matrix of the N rows minus their mean; T = tr K, F = |K|_F² and D = sum K_ii². The
    estimate is [2 F + (N² - 3 N + 1) T² - N (N - 1) D] / [(N - 1)(N - 2) F + T² - N (N - 1) D]. This is the
    source's estimator for sampled rows and all columns, with its averages over four distinct rows in closed
    form.

    The value is infinite if the denominator is not above 0: the sample then gives only a lower bound of the
    dimension. It is 0 if all rows are equal. It is NaN if only one row differs from the others, because its
    pairs hold no information.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Rows are independent samples; at least four.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        ``x`` has fewer than four rows, or as `participation_ratio`.

    References
    ----------
    C. Chun, A. Canatar, S. Chung and D. Lee, "Estimating dimensionality of neural representations from finite
    samples", arXiv 2509.26560 (the estimator γ_row).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((400, 20)) + 3.0
    >>> print(f"{participation_ratio(x):.1f} {participation_ratio_debiased(x):.1f}")
    1.2 20.0
    """
    array = as_matrices(x)
    if array.shape[-2] < 4:
        raise InputError(f"x has shape {array.shape}; the debiased estimate needs at least four rows")
    return _each(array, _debiased)


def _debiased(matrix: Floats) -> float:
    rows = matrix - matrix.mean(axis=0)
    energy = np.einsum("ij,ij->i", rows, rows)
    # Equal rows minus their mean leave only rounding errors.
    lost = np.finfo(np.float64).eps ** 2 * len(matrix) * np.einsum("ij,ij->i", matrix, matrix)
    if not (energy > lost).any():
        return 0.0
    g = gram(rows)
    return debiased_of_sums(len(matrix), float(energy.sum()), float(np.vdot(g, g)), float(energy @ energy))


def debiased_of_sums(n: int, total: float, square: float, fourth: float, *, eps: float = 0.0) -> float:
    """Return `participation_ratio_debiased` from sums over N rows minus their mean.

    Parameters
    ----------
    n : int
        Number of rows, at least four.
    total, square, fourth : float
        tr K, |K|_F² and sum K_ii² of their Gram matrix K.
    eps : float
        Relative rounding error of these sums, if it is more than that of n additions in float64.

    Examples
    --------
    >>> debiased_of_sums(4, 4.0, 8.0, 4.0)  # the corners of a square
    3.0
    """
    above = (2 * square, (n * n - 3 * n + 1) * total**2, -n * (n - 1) * fourth)
    below = ((n - 1) * (n - 2) * square, total**2, -n * (n - 1) * fourth)
    eps = max(eps, np.finfo(np.float64).eps * n)
    numerator, denominator = (
        value if value > eps * sum(map(abs, terms)) else 0.0
        for terms in (above, below)
        for value in (sum(terms),)
    )
    if denominator:
        return numerator / denominator
    return np.inf if numerator else np.nan


def effective_samples(x: ArrayLike) -> Floats:
    """Return the effective number of rows that carry the energy: (sum |x_i|²)² / sum |x_i|⁴.

    It is an upper bound of the participation ratio. A matrix of zeros has the value 0.

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
