"""Sentences about intervals, and the small print of a figure."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from fadiag.figures.style import label
from fadiag.results import MeanInterval

__all__ = [
    "LAST",
    "brief",
    "compare",
    "elsewhere",
    "hidden_layers",
    "last_hidden",
    "not_compared",
    "number",
    "output_layer",
    "per_cent",
    "small_print",
    "when",
    "with_interval",
]

#: The step of figures and sentences, where all conditions end at one.
LAST = "the last step"


def per_cent(accuracy: xr.DataArray) -> xr.DataArray:
    """Return an accuracy in per cent, whether it was logged as a share or in per cent already."""
    return (accuracy * (1 if float(accuracy.max()) > 1 else 100)).assign_attrs(accuracy.attrs)


def number(value: float) -> str:
    """Return three significant digits, with a true minus sign.

    >>> number(-0.01234), number(186.4), number(float("nan"))
    ('−0.0123', '186', 'no value')
    """
    if not np.isfinite(value):
        return "no value"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def with_interval(found: MeanInterval, unit: str = "") -> str:
    """Return ``mean [low, high]`` of a scalar interval; without the interval where there is one run."""
    mean, low, high = (number(float(x)) for x in (found.mean, found.low, found.high))
    if not int(found.n):
        return mean
    return f"{mean}{unit} [{low}, {high}]" if int(found.n) > 1 else f"{mean}{unit} (one seed, no interval)"


def not_compared(values: xr.DataArray, conditions: Iterable[str]) -> str:
    """Return why conditions are not compared: a rank depends on the number of samples."""
    of_all = str(values.attrs.get("samples", "")).split(", ")
    each = values.attrs.get("samples_of")
    held = of_all if each is None else [number for m in conditions for number in each.get(m, [])]
    samples = list(dict.fromkeys(held))
    told = f"not compared: runs measured on different numbers of samples ({', '.join(samples)})"
    return told if len(samples) > 1 else ""


def compare(found: MeanInterval, treated: str, baseline: str, what: str, unit: str = "") -> str:
    """Return what a paired difference says: below, above, or that one cannot tell."""
    pair = f"{label(treated)} − {label(baseline)}"
    n = int(found.n)
    if n == 0:
        return (
            f"{what}: no seed has a value for both {label(treated)} and {label(baseline)}, so no runs are "
            "paired; `fadiag compare` holds unpaired ones against each other"
        )
    told = f"{pair} = {with_interval(found, unit)}"
    if n == 1:
        return (
            f"{what}: one seed cannot tell whether {label(treated)} differs from {label(baseline)} ({told})"
        )
    over = f"95 % t interval over {n} paired seeds"
    if float(found.low) <= 0.0 <= float(found.high):
        unclear = f"cannot tell whether {label(treated)} differs from {label(baseline)}"
        return f"{what}: {unclear} ({told}, {over}, covers 0)"
    side = "below" if float(found.mean) < 0 else "above"
    return f"{what}: {label(treated)} is {side} {label(baseline)} ({told}, {over})"


def brief(found: MeanInterval, unit: str = "") -> str:
    """Return what a paired difference says, in few words."""
    n = int(found.n)
    if n == 0:
        return "without a pair of seeds"
    told = f"{with_interval(found, unit)}, {n} paired seeds" if n > 1 else with_interval(found, unit)
    if n == 1 or float(found.low) <= 0.0 <= float(found.high):
        return f"cannot tell ({told})"
    return f"{'lower' if float(found.mean) < 0 else 'higher'} ({told})"


def when(at_end: xr.DataArray) -> str:
    """Return the step of final values in words: the last one, or why another."""
    step, ends = int(at_end["step"]), at_end["last_step"]
    known = {label(str(m)): int(end) for m, end in zip(ends["condition"].values, ends.values, strict=True)}
    later = [f"{name} ends at step {end}" for name, end in known.items() if end > step]
    until = int(at_end["recorded_until"])
    if not later and step < until and max(known.values()) == step:
        return f"step {step} (no later step has a value; the results go up to step {until})"
    if not later:
        return LAST
    which = "no step that all have" if step < 0 else f"step {step}, the last that all have"
    return f"{which} ({', '.join(later)})"


def elsewhere(values: xr.DataArray, step: int) -> str:
    """Return the step of the values in words, where it is not the step that the sentence names."""
    at = int(values["step"])
    return "" if at == step else f" at step {at}"


def hidden_layers(numbers: xr.Dataset) -> list[str]:
    """Return the layers before the last that a pass went through; a network of one layer has that one."""
    layers = [str(layer) for layer in numbers.attrs.get("passed", numbers["layer"].values)]
    return layers[:-1] or layers


def output_layer(numbers: xr.Dataset) -> str:
    """Return the last layer that a pass went through."""
    return str(numbers.attrs.get("passed", numbers["layer"].values)[-1])


def last_hidden(numbers: xr.Dataset) -> str:
    """Return the layer of the captions: the study's declared one, else the one below the output."""
    declared = str(numbers.attrs.get("primary_layer"))
    return declared if declared in numbers["layer"].values else hidden_layers(numbers)[-1]


def small_print(array: xr.DataArray) -> str:
    """Return what a reader must know of the drawn numbers: N, probe mode, split, seeds, interval."""
    attrs = array.attrs
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
    run = array.notnull().any([d for d in array.dims if d not in ("condition", "seed")])
    counts = sorted({int(n) for n in run.sum("seed").values if n})
    seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    parts.append(f"{seeds} seed{'' if seeds == '1' else 's'} a condition, each drawn")
    parts.append(
        "mean with 95 % t interval over seeds" if counts and counts[-1] > 1 else "no interval from one seed"
    )
    return "; ".join(parts) + "."
