"""Compute effective ranks: the exponential of an entropy of the singular values."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.spectra.linalg.singular import relative_spectra
from fadiag.spectra.validate import Floats, as_spectra, unit_peak

__all__ = [
    "effective_rank",
    "effective_rank_energy",
    "effective_rank_energy_of_spectrum",
    "effective_rank_of_spectrum",
]


def _exp_entropy(weights: Floats) -> Floats:
    """Return exp(-sum q ln q) with q = weights / sum, or 0 if all weights are 0."""
    total = weights.sum(axis=-1, keepdims=True)
    q = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    logs = np.log(q, out=np.zeros_like(q), where=q > 0)
    return np.asarray(np.where(total[..., 0] > 0, np.exp(-(q * logs).sum(axis=-1)), 0.0))


def effective_rank_of_spectrum(s: ArrayLike) -> Floats:
    """Return the effective rank (Roy-Vetterli) from singular values (..., k); see `effective_rank`.

    Examples
    --------
    >>> float(effective_rank_of_spectrum([2.0, 2.0, 0.0]).round(12))
    2.0
    """
    return _exp_entropy(unit_peak(as_spectra(s)))


def effective_rank_energy_of_spectrum(s: ArrayLike) -> Floats:
    """Return the effective rank of the energy from singular values (..., k); see `effective_rank_energy`.

    Examples
    --------
    >>> float(effective_rank_energy_of_spectrum([2.0, 2.0, 0.0]).round(12))
    2.0
    """
    return _exp_entropy(np.square(unit_peak(as_spectra(s))))


def effective_rank(x: ArrayLike) -> Floats:
    """Return the effective rank of Roy and Vetterli: exp(-sum q ln q) with q = s / sum s.

    It is the largest of the ranks here, between the participation ratio and the rank. The tail of the
    spectrum dominates it. A matrix of zeros has rank 0.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite. The function does not center it; see `centered`.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        As `singular_values`.

    References
    ----------
    O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> float(effective_rank(np.eye(5)).round(12))
    5.0
    """
    return effective_rank_of_spectrum(relative_spectra(x)[0])


def effective_rank_energy(x: ArrayLike) -> Floats:
    """Return the effective rank of the energy: exp(-sum p ln p) with p = s² / sum s².

    A matrix of zeros has rank 0.

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
        As `singular_values`.

    Examples
    --------
    >>> import numpy as np
    >>> float(effective_rank_energy(np.eye(5)).round(12))
    5.0
    """
    return effective_rank_energy_of_spectrum(relative_spectra(x)[0])
