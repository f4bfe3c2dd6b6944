"""Name the variables of nulls, and compare values with their null."""

import numpy as np
import xarray as xr

from fadiag.spectra.statistics.p_value import TIE

__all__ = ["AT_CEILING", "NULL_WORDS", "exceeds", "is_companion"]

#: Suffix of the mark for values of a rank within 1 % of the largest possible rank of the matrix.
AT_CEILING = "at_ceiling"

#: Suffix of each variable of a null -> its description.
NULL_WORDS = {
    "null_low": "2.5 % quantile of the null of",
    "null_high": "97.5 % quantile of the null of",
    "null_mean": "mean of the null of",
    "null_p": "one-sided p-value, upper tail, against the null of",
    "null_p_low": "one-sided p-value, lower tail, against the null of",
    "null_draws": "number of draws of the null of",
}


def is_companion(variable: object) -> bool:
    """Return whether a variable is part of the null of another variable, or marks its ceiling.

    >>> is_companion("error_cosine_null_p"), is_companion("error_overlap_gate_null_low")
    (True, True)
    >>> is_companion("error_stable_rank_raw_at_ceiling"), is_companion("error_cosine")
    (True, False)
    """
    return str(variable).endswith(tuple(f"_{suffix}" for suffix in (*NULL_WORDS, AT_CEILING)))


def exceeds(values: xr.DataArray, bound: xr.DataArray) -> xr.DataArray:
    """Return which values exceed a bound by more than rounding, consistent with `spectra.at_or_above`.

    If a statistic does not depend on the draws, it equals its null up to rounding.

    >>> exceeds(xr.DataArray([1.0 + 1e-9, 1.1, np.nan]), xr.DataArray(1.0)).values.tolist()
    [False, True, False]
    """
    return values - bound > TIE * np.fmax(abs(values), abs(bound))
