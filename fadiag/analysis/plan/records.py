"""Select the records of an array that each step reads: its own, the first, or the last few."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.signal_refs import WINDOW

__all__ = ["declared_at", "first_record", "recent_records", "records_at"]


def declared_at(array: xr.DataArray) -> int:
    """Return the position of an array's first record; earlier positions hold fill values."""
    return int(array.attrs.get("declared_at", 0))


def first_record(array: xr.DataArray) -> xr.DataArray:
    """Return the first record of a signal, without a step axis."""
    return array.isel(step=declared_at(array))


def recent_records(
    array: xr.DataArray, rows_valid: NDArray[np.int64] | None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the positions (step, window) of the last `WINDOW` records up to each step.

    The second array marks the steps without such a window: too few records, or records with different
    numbers of samples.
    """
    at = np.arange(array.sizes["step"])[:, None] - np.arange(WINDOW)[::-1]
    missing = at[:, 0] < declared_at(array)
    at = at.clip(0)
    if "sample" in array.dims and rows_valid is not None:
        missing = missing | np.any(rows_valid[at] != rows_valid[at[:, -1:]], axis=-1)
    return at, missing


def records_at(
    array: xr.DataArray, steps: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[xr.DataArray, NDArray[np.bool_]]:
    """Return the records of an array at the wanted steps, and a mask of the steps without a record."""
    position = np.searchsorted(steps, wanted).clip(0, max(0, len(steps) - 1))
    return array.isel(step=position), steps[position] != wanted
