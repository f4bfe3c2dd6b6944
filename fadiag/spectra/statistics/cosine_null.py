"""Compute the distribution of the cosine between a weight and an independent feedback matrix."""

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_count, as_real

__all__ = ["cosine_null_p", "cosine_null_quantile"]


def cosine_null_quantile(q: ArrayLike, size: int) -> Floats:
    """Return a quantile of cos(vec W, vec B) for any W and a Gaussian B that is independent of it.

    cos² ~ Beta(1/2, (d - 1)/2), and both signs are equally likely. For large d the angle's standard deviation
    is 57.3/√d degrees. For other distributions of B use `permuted_cosines`.

    Parameters
    ----------
    q : array_like
        Probabilities between 0 and 1.
    size : int
        Number of entries d of B, at least 2.

    Returns
    -------
    array, float64

    Raises
    ------
    InputError
        ``q`` is outside [0, 1], or ``size`` is below 2.

    Examples
    --------
    >>> cosine_null_quantile([0.025, 0.5, 0.975], 10_000).round(4)
    array([-0.0196,  0.    ,  0.0196])
    """
    from scipy.special import betaincinv

    size = as_count(size, "size", 2)
    p = as_real(q, "q").astype(np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"q is {q!r}; probabilities lie between 0 and 1")
    two_sided = np.abs(2 * p - 1)
    return np.asarray(np.sign(p - 0.5) * np.sqrt(betaincinv(0.5, (size - 1) / 2, two_sided)))


def cosine_null_p(cosine: ArrayLike, size: int) -> Floats:
    """Return the one-sided p-value of a cosine under the distribution of `cosine_null_quantile`.

    Parameters
    ----------
    cosine : array_like
        Observed cosines; NaN (a weight of zeros) has no p-value and stays NaN.
    size : int
        Number of entries d of B, at least 2.

    Returns
    -------
    array, float64

    Raises
    ------
    InputError
        A cosine is outside [-1, 1], or ``size`` is below 2.

    Examples
    --------
    >>> cosine_null_p([0.0, 0.0196], 10_000).round(3)
    array([0.5  , 0.025])
    """
    from scipy.special import betaincc

    size = as_count(size, "size", 2)
    c = as_real(cosine, "cosine").astype(np.float64)
    if (np.abs(c) > 1).any():
        raise InputError(f"cosine reaches {np.nanmax(np.abs(c)):.6g}; cosines lie between -1 and 1")
    beyond = betaincc(0.5, (size - 1) / 2, np.square(c)) / 2
    return np.asarray(np.where(c < 0, 1 - beyond, beyond))
