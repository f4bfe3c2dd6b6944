"""Removing the mean row."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.spectra.validate import Floats, as_matrices

__all__ = ["centered"]


def centered(x: ArrayLike) -> Floats:
    """Return each matrix less its mean row, in float64.

    Equal rows give exact zeros: the rounding of their mean has a rank of its own and is removed.

    Parameters
    ----------
    x : array_like (..., rows, columns)
        Real and finite; rows are samples.

    Returns
    -------
    array (..., rows, columns), float64

    Raises
    ------
    InputError
        Where ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

    Examples
    --------
    >>> centered([[1.0, 2.0], [3.0, 2.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    array = as_matrices(x)
    # Halved at both ends of the range, a sum of large numbers stays finite; the first row is a free shift that
    # makes equal rows exact.
    first = array[..., :1, :].astype(np.float64)
    with np.errstate(over="ignore"):
        shifted = array.astype(np.float64) - first
        shifted -= shifted.mean(axis=-2, keepdims=True)
    return shifted
