"""The null beside a number: from statistics of draws that were recorded, or from a known law.

Low and high are the ends of the central 95 %.
"""

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import Values
from fadiag.analysis.metrics.view import Layer, View
from fadiag.signals import NULLS, nulls_of, part_of, role_of

__all__ = [
    "DRAWN_VERSION",
    "beta_angle_null",
    "beta_cosine_null",
    "drawn_nulls",
    "drawn_summary",
    "misfit",
    "spectral_null_arrays",
    "spectral_nulls",
]

_TAIL = 0.025
#: A B of fewer entries has no useful law.
_FEWEST_ENTRIES = 3
#: Standard errors from 0 beyond which the mean of B's entries is clearly not 0.
_CLEAR = 5
#: The spread of equal numbers, up to rounding.
_ROUNDING = 1e-12
#: Version of metrics with a drawn null: 2 since draws that equal the observed value up to rounding are ties,
#: 3 since draws and values are of the same samples, 4 since ranks of draws come from their spectra.
DRAWN_VERSION = 4


def misfit(name: str, arrays: Mapping[str, xr.DataArray], layer: Layer) -> str:
    """Return why recorded draws do not fit the values asked for; "" if they do, or if these are no draws.

    The recorder reduced the draws to statistics of so many samples, one unfolding and one k. A store without
    unfolding and k has draws of the samples and of the classes less one. A store without the number of
    samples may hold draws of a whole batch beside values of a part of it (``rows=``): they are left out.
    """
    role = role_of(name)
    if not role.null or role.signal is None or name not in arrays:
        return ""
    attrs = arrays[name].attrs
    values = arrays.get(role.signal.name)
    norms = arrays.get(part_of(role.signal.name, "norm"))  # beside a factor: one norm a sample
    samples = _samples(values, norms)
    if samples is not None and "samples" not in attrs:
        return "the store does not tell of how many samples the null was recorded: record again"
    if samples is not None and attrs["samples"] != samples:
        return f"the null was recorded of {attrs['samples']} samples, not {samples}"
    if role.statistic == "cosine":
        return ""
    flat = values is not None and values.ndim <= 3 and values.attrs.get("reduction", "raw") == "raw"
    unfolding = str(attrs.get("unfolding", "both" if flat else "samples"))
    if unfolding not in (layer.unfolding, "both"):
        return f"the null was recorded of the unfolding {unfolding!r}, not {layer.unfolding!r}"
    k = int(attrs.get("k", max(1, layer.classes - 1)))
    if role.statistic == "overlap" and k != layer.k:
        return f"the null was recorded with k = {k}, not {layer.k}"
    return ""


def _samples(*arrays: xr.DataArray | None) -> int | None:
    """Return the number of samples of the first array that has any."""
    return next((a.sizes["sample"] for a in arrays if a is not None and "sample" in a.dims), None)


def drawn_summary(draws: NDArray[np.float64], observed: Values) -> dict[str, Values]:
    """Summarize the draws (step, draw) of a null beside the observed value of each step.

    ``null_p`` is one-sided, see `spectra.p_value`: a draw that equals the observed value up to rounding
    counts, since the observed value may come from a float32 factor and the draws come from the signal. A draw
    that is NaN (a signal that died under it) does not count; every step has at least one that does.
    """
    low, high = np.nanquantile(draws, (_TAIL, 1 - _TAIL), axis=-1)
    return {
        "null_low": low,
        "null_high": high,
        "null_mean": np.nanmean(draws, axis=-1),
        "null_p": spectra.p_value(observed, draws),
        "null_draws": np.count_nonzero(~np.isnan(draws), axis=-1).astype(np.float64),
    }


def drawn_nulls(view: View, observed: Values, *, signal: str, statistic: str) -> Mapping[str, Values]:
    """Summarize the recorded draws of a statistic under each null of a signal."""
    return {
        f"{NULLS[null].prefix}{suffix}": values
        for null, array in nulls_of(signal, statistic).items()
        if array in view.signals
        for suffix, values in drawn_summary(view.values(array).astype(np.float64), observed).items()
    }


def spectral_null_arrays(signal: str, *, centered: bool, fourth: bool = False) -> tuple[str, ...]:
    """Return the recorded arrays that `spectral_nulls` reads.

    Parameters
    ----------
    signal : str
    centered : bool
    fourth : bool
        Whether the sums of |x_i|^4 are read too.
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
        Which spectrum the function takes.
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


def beta_cosine_null(view: View, observed: Values) -> Mapping[str, Values]:
    """Law of cos(W, B) for a B that is independent of W: cos^2 ~ Beta(1/2, (d - 1)/2), whatever W is.

    This is the law of a Gaussian B. A B whose mean is clearly not 0 is not one; its null is the law of its
    entries in any order. The cosine is then the correlation of the entries of W and B, which has the law
    above with d - 1 in the place of d, times the share of their spread, plus what their means give.
    """
    w, b = (view.flat(signal).astype(np.float64) for signal in ("weight", "static/feedback"))
    d = b.shape[-1]
    if d < _FEWEST_ENTRIES:
        return {}
    if not (np.abs(b.mean(axis=-1)) * np.sqrt(d) > _CLEAR * b.std(axis=-1)).any():
        return _beta_law(observed, d)
    with np.errstate(divide="ignore", invalid="ignore"):  # W may be zeros, or all one number
        whole = np.linalg.norm(w, axis=-1) * np.linalg.norm(b, axis=-1)
        means = d * w.mean(axis=-1) * b.mean(axis=-1) / whole
        spread = d * w.std(axis=-1) * b.std(axis=-1) / whole
        spread[~(spread > _ROUNDING)] = np.nan  # the same in any order
        law = _beta_law(np.clip((observed - means) / spread, -1.0, 1.0), d - 1)
    return {name: values if name == "null_p" else means + spread * values for name, values in law.items()}


def _beta_law(observed: Values, d: int) -> dict[str, Values]:
    low, middle, high = spectra.cosine_null_quantile([_TAIL, 0.5, 1 - _TAIL], d)
    full = np.ones_like(observed)
    return {
        "null_low": low * full,
        "null_high": high * full,
        "null_mean": middle * full,
        "null_p": spectra.cosine_null_p(observed, d),
    }


def beta_angle_null(view: View, observed: Values) -> Mapping[str, Values]:
    """Return the same law in degrees; ``null_p`` is the probability of an angle as small as the observed."""
    law = beta_cosine_null(view, np.cos(np.radians(observed)))
    return law and {
        "null_low": _degrees(law["null_high"]),
        "null_high": _degrees(law["null_low"]),
        "null_mean": _degrees(law["null_mean"]),
        "null_p": law["null_p"],
    }


def _degrees(cosine: Values) -> Values:
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
