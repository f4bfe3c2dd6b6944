"""Compute the overlap that two subspaces have by chance."""

from typing import NamedTuple

import numpy as np

from fadiag.spectra.validate import as_count

__all__ = ["OverlapMoments", "overlap_moments"]


class OverlapMoments(NamedTuple):
    """Mean and standard deviation of an overlap under chance.

    Examples
    --------
    >>> found = overlap_moments(100, 10)
    >>> isinstance(found, OverlapMoments), found.mean
    (True, 0.1)
    """

    mean: float
    std: float


def overlap_moments(columns: int, k: int, other: int | None = None) -> OverlapMoments:
    """Return the moments of the `overlap` |Uᵀ V|_F² / k with a uniformly drawn (Haar) subspace.

    The mean is m/n, the variance of |Uᵀ V|_F² is 2km(n-k)(n-m) / (n²(n-1)(n+2)). Use it only as a reference
    scale. Two errors with the same gates overlap more by chance, so test them against redrawn feedback.

    Parameters
    ----------
    columns : int
        Dimension n of the space.
    k : int
        Dimension of the subspace U.
    other : int, optional
        Dimension m of the subspace V; k by default.

    Returns
    -------
    OverlapMoments

    Raises
    ------
    InputError
        A dimension is below 1 or larger than that of the space.

    Examples
    --------
    >>> moments = overlap_moments(100, 10)
    >>> moments.mean, round(moments.std, 4)
    (0.1, 0.0127)
    """
    n = as_count(columns, "columns", 1)
    k = as_count(k, "k", 1, n)
    m = k if other is None else as_count(other, "other", 1, n)
    variance = 2 * k * m * (n - k) * (n - m) / (n**2 * (n - 1) * (n + 2)) if n > 1 else 0.0
    return OverlapMoments(m / n, float(np.sqrt(variance)) / k)
