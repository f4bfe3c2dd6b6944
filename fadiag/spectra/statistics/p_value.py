"""Compute the p-value of a statistic against draws of its null."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_real

__all__ = ["TIE", "at_or_above", "p_value"]

#: Values closer than this share of their scale are equal. Storing a signal or factor as float32 changes a
#: rank, a cosine or an overlap by less (1e-7). Differences that the draws can resolve are far larger.
TIE = 1e-6


def at_or_above(null: ArrayLike, observed: ArrayLike, *, tie: float = TIE) -> NDArray[np.int64]:
    """Count the draws at or above the observed value, including those that equal it up to rounding.

    If a statistic does not depend on the draw, every draw is a tie. But a signal and its factor give numbers
    that differ in the last digits, and so do two orders of summation. Without a tolerance the p-value would
    be 1 or the smallest possible one, by chance. The scale is the observed value's magnitude, or the draws'
    median magnitude if that is larger. The tolerance can only make a p-value larger.

    Parameters
    ----------
    null : array_like (..., M)
        Draws, not all NaN; a NaN does not count.
    observed : array_like (...)
        Observed values; the count for NaN is 0.
    tie : float
        Two values are equal if they differ by less than this share of the scale.

    Returns
    -------
    array (...), int64

    Raises
    ------
    InputError
        The draws are empty or all NaN, or values are infinite or not real numbers.

    Examples
    --------
    >>> int(at_or_above([1.0, 1.0, 0.9], 1.0 + 1e-9))
    2
    """
    draws = as_real(null, "null").astype(np.float64, copy=False)
    seen = as_real(observed, "observed").astype(np.float64, copy=False)[..., None]
    if draws.ndim < 1 or draws.shape[-1] == 0 or np.isnan(draws).all(axis=-1).any():
        raise InputError(f"null has shape {draws.shape}; it needs a draw that is a number for each value")
    for values, name in ((draws, "null"), (seen, "observed")):
        if np.isinf(values).any():
            raise InputError(f"{name} holds {int(np.isinf(values).sum())} infinite values; leave them out")
    # "higher" selects one of the draws. The mean of two draws could leave float64's range.
    middle = np.nanquantile(np.abs(draws), 0.5, axis=-1, keepdims=True, method="higher")
    with np.errstate(over="ignore"):
        lowest = seen - tie * np.fmax(np.abs(seen), middle)
    return np.asarray(np.count_nonzero(draws >= lowest, axis=-1))


def p_value(observed: ArrayLike, null: ArrayLike, *, tail: Literal["upper", "lower"] = "upper") -> Floats:
    """Return the one-sided p-value of a statistic, (1 + #{null >= observed}) / (M + 1) with M null draws.

    The lower tail counts the draws at or below: (1 + #{null <= observed}) / (M + 1).
    A draw that equals the observed value up to rounding counts (see `at_or_above`). A draw that is NaN does
    not count, and M is the number of the others. The p-value is never below 1 / (M + 1). It is exact if the
    observed statistic is exchangeable with the draws, as under redrawn feedback.

    Parameters
    ----------
    observed : array_like (...)
        NaN (no statistic) stays NaN.
    null : array_like (..., M)
        Draws, not all NaN.
    tail : {"upper", "lower"}
        "upper" tests for large values, "lower" for small values such as a collapsed rank.

    Returns
    -------
    array (...), float64

    Raises
    ------
    InputError
        As `at_or_above`, or the shapes do not fit.

    Examples
    --------
    >>> float(p_value(3.0, [1.0, 2.0, 3.0, 4.0])), float(p_value(3.0, [1.0, 2.0, 3.0, 4.0], tail="lower"))
    (0.6, 0.8)
    """
    seen, draws = as_real(observed, "observed"), as_real(null, "null")
    if draws.ndim < 1 or draws.shape[-1] == 0:
        raise InputError(f"null has shape {draws.shape}; it must be (..., M) with at least one draw")
    try:
        np.broadcast_shapes(seen.shape, draws.shape[:-1])
    except ValueError:
        raise InputError(
            f"observed {seen.shape} and null {draws.shape} do not fit: (...) and (..., M)"
        ) from None
    count = np.count_nonzero(~np.isnan(draws), axis=-1)
    as_far = at_or_above(draws, seen) if tail == "upper" else at_or_above(-draws, -seen)
    return np.asarray(np.where(np.isnan(seen), np.nan, (1 + as_far) / (count + 1)))
