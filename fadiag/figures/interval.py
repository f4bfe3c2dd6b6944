"""The mean over seeds with its 95 % t interval: the run is the unit."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.figures.table import of
from fadiag.spectra.statistics.intervals import t_quantile

__all__ = ["Interval", "contrast", "interval"]


@dataclass(frozen=True)
class Interval:
    """Mean, ends of the 95 % t interval and number of runs, each an array without the seeds' dimension.

    Below two runs there is a mean and no interval: the ends are NaN.
    """

    mean: xr.DataArray
    low: xr.DataArray
    high: xr.DataArray
    n: xr.DataArray


def interval(values: xr.DataArray, dim: str = "seed") -> Interval:
    """Return mean and 95 % t interval of the mean over runs.

    Formula: mean ± t(0.975, n - 1) · s / sqrt(n), s the standard deviation; NaN runs are left out of n.

    >>> import xarray as xr
    >>> three = interval(xr.DataArray([1.0, 2.0, 3.0], dims="seed"))
    >>> print(f"{three.mean:.2f} [{three.low:.2f}, {three.high:.2f}], n = {three.n:d}")
    2.00 [-0.48, 4.48], n = 3
    """
    n = values.notnull().sum(dim)
    mean = values.sum(dim, skipna=True) / n.where(n > 0)
    square = ((values - mean) ** 2).sum(dim, skipna=True)
    spread = np.sqrt(square / (n - 1).where(n > 1))
    quantile = {int(k): t_quantile(0.95, k - 1) for k in np.unique(n) if k > 1}
    t = np.reshape([quantile.get(int(k), np.nan) for k in n.values.flat], n.shape)
    half = n.copy(data=t) * spread / np.sqrt(n.where(n > 1))
    return Interval(mean, mean - half, mean + half, n)


def contrast(values: xr.DataArray, treated: str, baseline: str) -> Interval:
    """Return the paired difference treated - baseline over the seeds that both conditions ran."""
    return interval(of(values, treated) - of(values, baseline))
