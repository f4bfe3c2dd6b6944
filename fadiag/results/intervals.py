"""Compute the mean over seeds with its 95 % t interval, as labelled arrays."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from fadiag.results.by_condition import of_condition
from fadiag.spectra import t_interval

__all__ = ["MeanInterval", "contrast", "cut_interval", "mean_interval", "possible"]

#: The ranks that a signal of zeros alone has below 1.
_RANKS = ("effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank")
_FORMS = ("raw", "centered", "row_normalized")
_RANK_ENDS = tuple(f"_{rank}_{form}" for rank in _RANKS for form in _FORMS)


@dataclass(frozen=True)
class MeanInterval:
    """The mean, the ends of the 95 % t interval and the number of runs, as arrays without the seed dimension.

    With fewer than two runs there is no interval, and its ends are NaN.

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

    Runs whose value is NaN or infinite are left out of the mean, the interval and n.

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
            found = t_interval(runs[here][:, :count])
            mean[here], low[here], high[here] = found.mean, found.low, found.high
    coords = {name: coord for name, coord in array.coords.items() if dim not in coord.dims}
    return MeanInterval(*(xr.DataArray(part, coords, array.dims[:-1]) for part in (mean, low, high, n)))


def possible(name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a logged value or metric, as far as its name says.

    Examples
    --------
    >>> possible("test_accuracy"), possible("error_cosine"), possible("error_stable_rank_raw")
    ((0, 1), (-1, 1), (1, inf))
    """
    if name.endswith(("_accuracy", "_overlap")):
        return 0, 1
    if name.endswith("_cosine"):
        return -1, 1
    return (1 if name.endswith(_RANK_ENDS) else 0 if name == "loss" else -np.inf), np.inf


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
    >>> found = contrast(xr.DataArray([[1.0, 5.0], [2.0, 6.0]], runs), "fa", "bp")
    >>> float(found.mean), float(found.low)
    (1.0, 1.0)
    """
    return mean_interval(of_condition(values, treated) - of_condition(values, baseline))
