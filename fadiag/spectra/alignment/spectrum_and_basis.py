"""Compute singular values and leading right directions together, by one decomposition if it is accurate."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.spectra.alignment.right_basis import SMALL, clear_of_rounding, right_basis, right_of_gram
from fadiag.spectra.linalg.lapack import gram_spectrum
from fadiag.spectra.linalg.singular import NARROW, accurate, singular_values
from fadiag.spectra.validate import Floats, scale_exactly

__all__ = ["spectrum_and_basis"]


def spectrum_and_basis(matrix: NDArray[Any], k: int) -> tuple[Floats, Floats]:
    """Return `singular_values` and `right_basis` of one matrix, at about the cost of the former.

    Parameters
    ----------
    matrix : array (rows, columns)
    k : int

    Examples
    --------
    >>> s, basis = spectrum_and_basis(np.diag([3.0, 2.0, 1.0]), 2)
    >>> s, np.abs(basis.T).round(9).tolist()
    (array([3., 2., 1.]), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    """
    short, long = sorted(matrix.shape)
    if short >= SMALL and long < NARROW * short:
        scaled, exponent = scale_exactly(matrix)
        squares, vectors = gram_spectrum(scaled, k)
        s = np.sqrt(np.maximum(squares[::-1], 0.0))
        basis = right_of_gram(scaled, squares[-k:][::-1], vectors, clear_of_rounding(matrix))
        if basis is not None and accurate(s):
            return np.ldexp(s, exponent), basis
    return singular_values(matrix), right_basis(matrix, k)
