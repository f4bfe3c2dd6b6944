"""Write the small print of a variable: N, data, unfolding, centering, seeds and interval."""

from typing import Literal

import xarray as xr

from fadiag.store.tools.printable import printable

__all__ = ["Drawn", "definition", "seeds_and_interval"]

#: What a figure draws of the seeds: each with mean and interval, the mean alone, or each alone.
Drawn = Literal["interval", "mean", "seeds"]


def definition(values: xr.DataArray) -> str:
    """Return how a variable was measured, from its attributes; "" if they say nothing."""
    attrs = values.attrs
    parts = []
    if "samples" in attrs:
        parts.append(f"N = {attrs['samples']} samples")
    elif attrs.get("probe_mode"):
        parts.append("N was not recorded")
    if attrs.get("split"):
        parts.append(f"probe '{attrs['split']}'")
    if attrs.get("probe_mode"):
        parts.append(f"norms in {attrs['probe_mode']} mode")
    if attrs.get("unfolding"):
        parts.append(f"unfolding: {attrs['unfolding']}")
    if "centered" in attrs:
        parts.append("mean row removed (centered)" if attrs["centered"] else "mean row not removed (raw)")
    if attrs.get("k"):
        guess = f", {attrs['k_source']}" if "k_source" in attrs else ""
        parts.append(f"k = {attrs['k']} directions{guess}, or all of a layer with fewer")
    text = "; ".join(parts)
    return printable(f"{text[:1].upper()}{text[1:]}.") if text else ""


def seeds_and_interval(values: xr.DataArray, drawn: Drawn = "interval") -> str:
    """Return over how many seeds the means are and what is drawn, from values by condition and seed."""
    known = values.notnull().any([str(d) for d in values.dims if d not in ("condition", "seed")])
    counts = sorted({int(n) for n in known.sum("seed").values if n})
    if not counts:
        return "No run has a value."
    seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    words = f"{seeds} seed{'' if seeds == '1' else 's'} per condition"
    if drawn == "mean":
        return f"{words}; mean over seeds, no interval."
    words += ", every seed is drawn"
    if drawn == "seeds":
        return f"{words}; no mean, no interval."
    if counts[-1] == 1:
        return f"{words}; no interval from one seed."
    return f"{words}; mean with 95 % t interval over seeds, cut at what is possible."
