"""Remove the mean row of a matrix."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.spectra.validate import Floats, as_matrices, require_finite, scale_exactly

__all__ = ["centered"]


def centered(x: ArrayLike) -> Floats:
    """Return each matrix minus its mean row, in float64.

    Equal rows give exact zeros. Otherwise the rounding error of their mean would show up as a rank.

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
        ``x`` is empty, has fewer than two axes, is complex, or holds NaN or infinities.

    Examples
    --------
    >>> centered([[1.0, 2.0], [3.0, 2.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    array = as_matrices(x)
    values = np.empty(array.shape)
    for index in np.ndindex(array.shape[:-2]):
        scaled, exponent = scale_exactly(array[index])
        # Subtracting the first row does not change the result, and makes equal rows exact zeros.
        scaled = scaled - scaled[:1]
        scaled -= scaled.mean(axis=0)
        with np.errstate(over="ignore"):
            values[index] = np.ldexp(scaled, exponent)
    require_finite(values, "x, centered in float64,")
    return values
