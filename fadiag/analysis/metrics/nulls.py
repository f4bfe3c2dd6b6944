"""Compute the nulls of metrics, from recorded draws or from random orders of B's entries.

Low and high are the ends of the central 95 %.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import Values
from fadiag.analysis.metrics.view import Layer, View
from fadiag.results.null_values import NULL_WORDS
from fadiag.signals import NULLS, nulls_of, part_of, role_of

__all__ = [
    "DRAWN_VERSION",
    "ORDERS",
    "REORDERED",
    "TAIL",
    "drawn_nulls",
    "drawn_summary",
    "misfit",
    "reordered_angle_null",
    "reordered_cosine_null",
    "spectral_null_arrays",
    "spectral_nulls",
]

#: The share of draws below the low end, and above the high end.
TAIL = 0.025
#: Number and seed of the random orders of B's entries in the null of cos(W, B), the same for all runs.
ORDERS, ORDERS_SEED = 9_999, 0
#: The most cosines in memory at a time.
_AT_ONCE = 2**20
REORDERED = (
    f"B's entries in random order: {ORDERS:,} orders, as "
    f"fadiag.spectra.permuted_cosines(W, B, {ORDERS}, numpy.random.default_rng({ORDERS_SEED})) draws them"
)
#: Version of metrics with a drawn null. 2: a draw that equals the observed value up to rounding is a tie.
#: 3: draws and values come from the same samples. 4: ranks of draws come from their spectra.
#: 5: both tails are given.
DRAWN_VERSION = 5


def misfit(name: str, arrays: Mapping[str, xr.DataArray], layer: Layer) -> str:
    """Return why recorded draws do not fit the requested values; "" if they fit, or if there are no draws.

    The recorder reduced the draws to statistics for one number of samples, one unfolding and one k. If a
    store names neither unfolding nor k, its draws used "samples" and the number of classes minus one. If it
    does not name the number of samples, the draws may come from the whole batch and the values from a part of
    it (``rows=``). Such draws are left out.
    """
    role = role_of(name)
    if not role.null or role.signal is None or name not in arrays:
        return ""
    attrs = arrays[name].attrs
    values = arrays.get(role.signal.name)
    norms = arrays.get(part_of(role.signal.name, "norm"))  # saved together with a factor: one norm per sample
    samples = _samples(values, norms)
    if samples is not None and "samples" not in attrs:
        return "the store does not say how many samples the null was recorded on: record again"
    if samples is not None and attrs["samples"] != samples:
        return f"the null was recorded on {attrs['samples']} samples, not {samples}"
    if role.statistic == "cosine":
        return ""
    flat = values is not None and values.ndim <= 3 and values.attrs.get("reduction", "raw") == "raw"
    unfolding = str(attrs.get("unfolding", "both" if flat else "samples"))
    if unfolding not in (layer.unfolding, "both"):
        return f"the null was recorded with the unfolding {unfolding!r}, not {layer.unfolding!r}"
    k = attrs.get("k", layer.classes and max(1, layer.classes - 1))
    if role.statistic == "overlap" and k != layer.k:
        return f"the null was recorded with k = {k or 'unknown'}, not {layer.k}"
    return ""


def _samples(*arrays: xr.DataArray | None) -> int | None:
    """Return the number of samples of the first array that has any."""
    return next((a.sizes["sample"] for a in arrays if a is not None and "sample" in a.dims), None)


def drawn_summary(draws: NDArray[np.float64], observed: Values) -> dict[str, Values]:
    """Summarize the draws (step, draw) of a null, given the observed value of each step.

    ``null_p`` is the p-value of the upper tail and ``null_p_low`` of the lower tail, see `spectra.p_value`. A
    draw that equals the observed value up to rounding counts in both. The two may differ by rounding, since
    the value may come from a float32 factor and the draws from the signal. A draw that is NaN (its signal was
    zero) does not count. A step where every draw is NaN has no null.
    """
    count = np.count_nonzero(~np.isnan(draws), axis=-1)
    found = {name: np.full(len(draws), np.nan) for name in NULL_WORDS}
    found["null_draws"] = count.astype(np.float64)
    if not (known := count > 0).any():
        return found
    draws, observed = draws[known], observed[known]
    low, high = np.nanquantile(draws, (TAIL, 1 - TAIL), axis=-1)
    found["null_low"][known], found["null_high"][known] = low, high
    found["null_mean"][known] = np.nanmean(draws, axis=-1)
    found["null_p"][known] = spectra.p_value(observed, draws)
    found["null_p_low"][known] = spectra.p_value(observed, draws, tail="lower")
    return found


def drawn_nulls(view: View, observed: Values, *, signal: str, statistic: str) -> Mapping[str, Values]:
    """Summarize the recorded draws of a statistic under each null of a signal."""
    return {
        f"{NULLS[null].prefix}{suffix}": values
        for null, array in nulls_of(signal, statistic).items()
        if array in view.signals
        for suffix, values in drawn_summary(view.values(array).astype(np.float64), observed).items()
    }


def spectral_null_arrays(signal: str, *, centered: bool, fourth: bool = False) -> tuple[str, ...]:
    """Return the names of the recorded arrays that `spectral_nulls` reads.

    Parameters
    ----------
    signal : str
    centered : bool
    fourth : bool
        Whether the sums of |x_i|^4 are also read.
    """
    how = "centered" if centered else "raw"
    statistics = (f"spectrum_{how}", *((f"fourth_{how}",) if fourth else ()))
    return tuple(array for statistic in statistics for array in nulls_of(signal, statistic).values())


def spectral_nulls(
    view: View,
    observed: Values,
    *,
    signal: str,
    centered: bool,
    function: Callable[..., Values],
    fourth: bool = False,
) -> Mapping[str, Values]:
    """Summarize a function of the spectrum of each recorded draw, under each null of a signal.

    Parameters
    ----------
    view : View
    observed : array (step,)
    signal : str
    centered : bool
        Whether the function takes the spectrum of the centered signal.
    function : callable
        Takes the singular values (..., value) and, with ``fourth``, the sums of |x_i|^4 (...).
    fourth : bool
    """
    found: dict[str, Values] = {}
    for null in nulls_of(signal, "spectrum_raw"):
        names = spectral_null_arrays(signal, centered=centered, fourth=fourth)
        own = [name for name in names if role_of(name).null == null]
        if all(name in view.signals for name in own):
            arrays = [view.values(name).astype(np.float64) for name in own]
            valid = ~np.isnan(arrays[0]).any(axis=-1)
            draws = np.full(valid.shape, np.nan)
            draws[valid] = function(*(array[valid] for array in arrays))
            summary = drawn_summary(draws, observed)
            found |= {f"{NULLS[null].prefix}{suffix}": values for suffix, values in summary.items()}
    return found


def reordered_cosine_null(view: View, observed: Values) -> Mapping[str, Values]:
    """Compare cos(W, B) with its law when B's entries are in random order.

    This null is valid for any B that is independent of W, even if the mean of its entries is not zero.
    """
    return _reordered(view, observed, lambda cosines: cosines)


def reordered_angle_null(view: View, observed: Values) -> Mapping[str, Values]:
    """Compare the angle of W and B, in degrees, with its law when B's entries are in random order.

    Alignment makes the angle smaller, so it shows in the lower tail.
    """
    return _reordered(view, observed, lambda c: np.degrees(np.arccos(np.clip(c, -1.0, 1.0))))


def _reordered(view: View, observed: Values, scale: Callable[[Values], Values]) -> Mapping[str, Values]:
    weight, feedback = view.flat("weight"), view.flat("static/feedback")
    alive = np.broadcast_to(weight.any(axis=-1) & feedback.any(axis=-1), len(weight))
    found = {name: np.full(len(weight), np.nan) for name in NULL_WORDS}
    at_once = max(1, _AT_ONCE // max(ORDERS, weight.shape[-1]))
    living = np.flatnonzero(alive)
    for start in range(0, len(living), at_once):
        steps = living[start : start + at_once]
        b = feedback if len(feedback) == 1 else feedback[steps]
        orders = np.random.default_rng(ORDERS_SEED)  # the same orders for all steps
        draws = scale(spectra.permuted_cosines(weight[steps], b, ORDERS, orders))
        for name, values in drawn_summary(draws, observed[steps]).items():
            found[name][steps] = values
    return found
