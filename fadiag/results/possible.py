"""Say which values a variable can take: the ends for its intervals, and the 0 of a dead layer."""

import re

import numpy as np
import xarray as xr

__all__ = ["is_rank", "living", "possible_values"]

_RANK = re.compile(r"effective_rank|participation_ratio|stable_rank|effective_samples")


def is_rank(name: object) -> bool:
    """Return whether a variable is a rank, which is at least 1 unless its matrix is zero.

    >>> is_rank("error_stable_rank_raw"), is_rank("error_cosine")
    (True, False)
    """
    return _RANK.search(str(name)) is not None


def possible_values(array: xr.DataArray) -> tuple[float, float]:
    """Return the smallest and the largest value that a variable can take, as far as the results say.

    A rank of a matrix with a row for each sample is at most N. An unbiased estimate has no bounds.

    Examples
    --------
    >>> rank = xr.DataArray(name="error_stable_rank_raw", attrs={"samples": 64, "unfolding": "samples"})
    >>> possible_values(rank), possible_values(xr.DataArray(name="error_cosine"))
    ((1.0, 64.0), (-1.0, 1.0))
    >>> [possible_values(xr.DataArray([x], name="test_accuracy"))[1] for x in (0.97, 97.0)]
    [1.0, 100.0]
    """
    name = str(array.name)
    if name.endswith("accuracy"):  # a share, or per cent
        return 0.0, 100.0 if np.max(array.values, initial=0.0, where=np.isfinite(array.values)) > 1 else 1.0
    if name.endswith("_overlap"):
        return 0.0, 1.0
    if name.endswith("_cosine"):
        return -1.0, 1.0
    if name.endswith("loss"):
        return 0.0, np.inf
    if not is_rank(name) or "debiased" in name:
        return -np.inf, np.inf
    samples = array.attrs.get("samples")
    known = isinstance(samples, int | np.integer) and array.attrs.get("unfolding") == "samples"
    roof = float(samples or 0) - ("centered" in name) if known else np.inf
    return 1.0, roof


def living(array: xr.DataArray) -> xr.DataArray:
    """Return a variable with NaN for the rank 0 of a dead layer: zeros have no direction to count.

    >>> living(xr.DataArray([0.0, 3.0], name="error_stable_rank_raw")).values.tolist()
    [nan, 3.0]
    """
    return array.where(array != 0) if is_rank(array.name) else array
