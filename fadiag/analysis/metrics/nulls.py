"""The null beside a number, from statistics that were kept or from a law that is known.

Low and high are the ends of the central 95 %.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import Values
from fadiag.analysis.metrics.view import Layer, View

__all__ = [
    "DRAWN_VERSION",
    "beta_angle_null",
    "beta_cosine_null",
    "drawn_null",
    "drawn_rank_nulls",
    "drawn_summary",
    "misfit",
]

_TAIL = 0.025
#: A B of fewer entries has no law worth the name.
_FEWEST_ENTRIES = 3
#: Standard errors from 0 beyond which the mean of B's entries is clearly not 0.
_CLEAR = 5
#: A spread of numbers that are one number, up to rounding.
_ROUNDING = 1e-12
#: Version of metrics with such a null: 2 since draws that equal the observed value up to rounding are ties,
#: 3 since the draws are of the samples that the values are of.
DRAWN_VERSION = 3


def misfit(name: str, arrays: Mapping[str, xr.DataArray], layer: Layer) -> str:
    """Tell why recorded draws are not of the values asked for; "" where they are, or are no draws.

    Draws were reduced to statistics when they were recorded, of so many samples, one unfolding and one k.
    Where the store does not tell the last two, they are of the samples and of the classes less one. A store
    that does not tell the samples may hold draws of a whole batch beside values of a part of it (``rows=``):
    they are left out.
    """
    _, mark, statistic = name.partition("_null_")
    if not mark or name not in arrays:
        return ""
    attrs = arrays[name].attrs
    error = arrays.get("error")
    samples = _samples(error, arrays.get("error_norm"))  # of a factor, the norms have one row a sample
    if samples is not None and "samples" not in attrs:
        return "the store does not tell of how many samples the null was recorded: record again"
    if samples is not None and attrs["samples"] != samples:
        return f"the null was recorded of {attrs['samples']} samples, not {samples}"
    if statistic == "cosine":
        return ""
    flat = error is not None and error.ndim <= 3 and error.attrs.get("reduction", "raw") == "raw"
    unfolding = str(attrs.get("unfolding", "both" if flat else "samples"))
    if unfolding not in (layer.unfolding, "both"):
        return f"the null was recorded of the unfolding {unfolding!r}, not {layer.unfolding!r}"
    k = int(attrs.get("k", max(1, layer.classes - 1)))
    if statistic == "overlap" and k != layer.k:
        return f"the null was recorded with k = {k}, not {layer.k}"
    return ""


def _samples(*arrays: xr.DataArray | None) -> int | None:
    """Return for how many samples there is room in the first array that has any."""
    return next((a.sizes["sample"] for a in arrays if a is not None and "sample" in a.dims), None)


def drawn_summary(draws: NDArray[np.float64], observed: Values) -> dict[str, Values]:
    """Summarize the draws (step, draw) of a null beside the observed value of each step.

    ``null_p`` is (1 + number of draws at or above the observed value) / (draws + 1), one-sided. A draw that
    equals the observed value up to rounding (1e-6, see `spectra.at_or_above`) counts: the observed value may
    come from a float32 factor, the draws come from the signal. A draw that is NaN (a signal that died under
    it) does not count; every step has at least one that does.
    """
    low, high = np.nanquantile(draws, (_TAIL, 1 - _TAIL), axis=-1)
    above = spectra.at_or_above(draws, observed)
    count = np.count_nonzero(~np.isnan(draws), axis=-1)
    p = np.where(np.isnan(observed), np.nan, (1 + above) / (count + 1))
    return {
        "null_low": low,
        "null_high": high,
        "null_mean": np.nanmean(draws, axis=-1),
        "null_p": p,
        "null_draws": count.astype(np.float64),
    }


def drawn_null(view: View, observed: Values, *, signal: str) -> Mapping[str, Values]:
    """Summarize the kept draws under redrawn feedback, where they were recorded."""
    if signal not in view.signals:
        return {}
    return drawn_summary(view.values(signal).astype(np.float64), observed)


def drawn_rank_nulls(view: View, observed: Values, *, statistic: str) -> Mapping[str, Values]:
    """Summarize both nulls of the error's rank: redrawn feedback, and the layer's own gates (mask null)."""
    redrawn = drawn_null(view, observed, signal=f"error_null_{statistic}")
    mask = drawn_null(view, observed, signal=f"mask_null_{statistic}")
    return {**redrawn, **{f"mask_{suffix}": values for suffix, values in mask.items()}}


def beta_cosine_null(view: View, observed: Values) -> Mapping[str, Values]:
    """Law of cos(W, B) for a B that knows nothing of W: cos^2 ~ Beta(1/2, (d - 1)/2), whatever W is.

    That is of a Gaussian B, and one whose mean is clearly not 0 is none: there it is the law of its entries
    in any order. The cosine is then the correlation of the entries of W and B, which has the law above with
    d - 1 in d's place, times the share of their spread, plus what their means give.
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
        spread[~(spread > _ROUNDING)] = np.nan  # in any order alike
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
