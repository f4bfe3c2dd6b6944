"""Compute the mean over seeds with its 95 % t interval, as labelled arrays."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from fadiag.results.by_condition import of_condition
from fadiag.spectra import t_interval
from fadiag.spectra.statistics.p_value import TIE

__all__ = ["MeanInterval", "contrast", "cut_interval", "mean_interval"]


@dataclass(frozen=True)
class MeanInterval:
    """The mean, the ends of the 95 % t interval and the number of runs, as arrays without the seed dimension.

    With fewer than two runs, or with runs of equal values, there is no interval, and its ends are NaN.

    Examples
    --------
    >>> found = mean_interval(xr.DataArray([1.0, 2.0, 3.0], dims="seed"))
    >>> isinstance(found, MeanInterval), found.mean.item(), found.n.item()
    (True, 2.0, 3)
    """

    mean: xr.DataArray
    low: xr.DataArray
    high: xr.DataArray
    n: xr.DataArray


def mean_interval(values: xr.DataArray, dim: str = "seed") -> MeanInterval:
    """Return the mean over runs with its 95 % t interval, from `fadiag.spectra.t_interval`.

    Runs whose value is NaN or infinite are left out of the mean, the interval and n. Runs that are equal, up
    to the rounding of float32 signals, show no variation. A t interval of no width would claim certainty, so
    there is none.

    Examples
    --------
    >>> three = mean_interval(xr.DataArray([1.0, 2.0, np.nan, 3.0], dims="seed"))
    >>> print(f"{three.mean:.2f} [{three.low:.2f}, {three.high:.2f}], n = {three.n:d}")
    2.00 [-0.48, 4.48], n = 3
    """
    array = values.transpose(..., dim)
    missing = ~np.isfinite(array.values)
    # Sort the runs with a value to the front, in their order.
    runs = np.take_along_axis(array.values, np.argsort(missing, axis=-1, kind="stable"), axis=-1)
    n = np.asarray(np.count_nonzero(~missing, axis=-1))
    mean, low, high = (np.full(n.shape, np.nan) for _ in range(3))
    for count in np.unique(n[n > 0]):
        here = n == count
        if count == 1:
            mean[here] = runs[here][:, 0]
        else:
            own = runs[here][:, :count]
            found = t_interval(own)
            equal = np.ptp(own, axis=-1) <= TIE * abs(own).max(axis=-1)
            mean[here] = found.mean
            low[here], high[here] = (np.where(equal, np.nan, end) for end in (found.low, found.high))
    coords = {name: coord for name, coord in array.coords.items() if dim not in coord.dims}
    return MeanInterval(*(xr.DataArray(part, coords, array.dims[:-1]) for part in (mean, low, high, n)))


def cut_interval(found: MeanInterval, floor: float, roof: float) -> MeanInterval:
    """Return an interval cut at the smallest and the largest possible value.

    The mean of possible values is possible, so a cut interval covers it as often as the whole one.

    Examples
    --------
    >>> found = cut_interval(mean_interval(xr.DataArray([1.0, 1.0, 4.0], dims="seed")), 1.0, np.inf)
    >>> found.mean.item(), found.low.item()
    (2.0, 1.0)
    """
    # A dead signal has rank 0, below the floor of all others.
    least, most = np.fmin(floor, found.mean), np.fmax(roof, found.mean)
    low = found.low.where(~(found.low < least), least)
    return replace(found, low=low, high=found.high.where(~(found.high > most), most))


def contrast(values: xr.DataArray, treated: str, baseline: str) -> MeanInterval:
    """Return the paired difference treated - baseline over the seeds that both conditions ran.

    Examples
    --------
    >>> runs = {"condition": ["bp", "fa"], "seed": [0, 1]}
    >>> found = contrast(xr.DataArray([[1.0, 5.0], [2.0, 6.5]], runs), "fa", "bp")
    >>> print(f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]")
    1.25 [-1.93, 4.43]
    """
    return mean_interval(of_condition(values, treated) - of_condition(values, baseline))
