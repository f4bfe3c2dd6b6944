"""Write the small print of a variable: N, data, unfolding, centering, seeds and interval."""

from collections.abc import Iterable
from typing import Literal

import xarray as xr

from fadiag.figures.look.theme import label
from fadiag.store.tools.printable import printable

__all__ = ["Drawn", "definition", "samples_of", "seeds_and_interval"]

#: What a figure draws of the seeds: each with mean and interval, the mean alone, or each alone.
Drawn = Literal["interval", "mean", "seeds"]


def definition(values: xr.DataArray) -> list[str]:
    """Return how a variable was measured: a sentence on its data, and one on its matrix."""
    attrs = values.attrs
    data, parts = [], []
    if "samples" in attrs:
        data.append(f"N = {_samples(values)}")
    elif attrs.get("probe_mode"):
        data.append("N was not recorded")
    if attrs.get("split"):
        data.append(f"probe '{attrs['split']}'")
    if attrs.get("probe_mode"):
        data.append(f"network in {attrs['probe_mode']} mode")
    if attrs.get("unfolding"):
        parts.append(f"unfolding: {attrs['unfolding']}")
    if "centered" in attrs:
        parts.append("mean row removed (centered)" if attrs["centered"] else "mean row not removed (raw)")
    if attrs.get("k"):
        guess = f", {attrs['k_source']}" if "k_source" in attrs else ""
        parts.append(f"k = {attrs['k']} directions{guess}, or all of a layer with fewer")
    texts = ["; ".join(each) for each in (data, parts) if each]
    return [printable(f"{text[:1].upper()}{text[1:]}.") for text in texts]


def _samples(values: xr.DataArray) -> str:
    """Return the numbers of samples, with the conditions of each if they differ.

    >>> import numpy as np
    >>> two = xr.DataArray([3.0, 4.0], {"condition": ["bp", "fa"]}, attrs={"samples": "256, 512"})
    >>> _samples(two.assign_attrs(samples_of={"bp": ["256"], "fa": ["512"]}))
    '256 samples (bp), 512 samples (fa)'
    >>> six = xr.DataArray(np.ones(6), {"condition": [*"abcdef"]}, attrs={"samples": "256, 512"})
    >>> _samples(six.assign_attrs(samples_of={c: ["256" if c == "a" else "512"] for c in "abcdef"}))
    '512 samples, 256 samples (a)'
    >>> _samples(six.assign_attrs(samples_of={c: ["256" if c < "d" else "512"] for c in "abcdef"}))
    '256 samples (a, b, c), 512 samples (d, e, f)'
    """
    of = samples_of(
        values, [str(name) for name in values["condition"].values] if "condition" in values.dims else []
    )
    if len(of) > 1:
        first, second, *_ = sorted(map(len, of.values()), reverse=True)
        # The number that most conditions have needs no list of them. It comes first.
        many = first if first > max(second, 2) else None
        return ", ".join(
            f"{n} samples" + ("" if len(names) == many else f" ({', '.join(map(label, names))})")
            for n, names in sorted(of.items(), key=lambda item: len(item[1]) != many)
        )
    return f"{next(iter(of), values.attrs['samples'])} samples"


def samples_of(values: xr.DataArray, conditions: Iterable[str]) -> dict[str, list[str]]:
    """Return the conditions that have each number of samples; empty if the results do not say it."""
    by_condition = values.attrs.get("samples_of") or {}
    found: dict[str, list[str]] = {}
    for name in conditions:
        if numbers := ", ".join(by_condition.get(name, [])):
            found.setdefault(numbers, []).append(name)
    return found


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
    return f"{words}; mean with 95 % t interval over seeds (plain bar or band), cut at what is possible."
