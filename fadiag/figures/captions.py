"""Write the sentences and the small print of figures."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from fadiag.figures.style import label
from fadiag.results import MeanInterval, contrast, mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.null_values import AT_CEILING
from fadiag.results.without_value import named, runs_of, runs_without_value

__all__ = [
    "LAST",
    "brief",
    "ceiling",
    "compare",
    "elsewhere",
    "hidden_layers",
    "interval_of",
    "last_hidden",
    "not_compared",
    "number",
    "output_layer",
    "per_cent",
    "small_print",
    "when",
    "with_interval",
]

#: The step in figures and sentences, if all conditions end at the same step.
LAST = "the last step"


def per_cent(accuracy: xr.DataArray) -> xr.DataArray:
    """Return an accuracy in per cent, whether it was logged as a share or in per cent."""
    return (accuracy * (1 if float(accuracy.max()) > 1 else 100)).assign_attrs(accuracy.attrs)


def number(value: float) -> str:
    """Return a number with three significant digits and a true minus sign.

    >>> number(-0.01234), number(186.4), number(float("nan"))
    ('−0.0123', '186', 'no value')
    """
    if not np.isfinite(value):
        return "no value"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def with_interval(found: MeanInterval, unit: str = "") -> str:
    """Return ``mean [low, high]`` of a scalar interval; from one run, return the mean alone."""
    mean, low, high = (number(float(x)) for x in (found.mean, found.low, found.high))
    if not int(found.n):
        return mean
    return f"{mean}{unit} [{low}, {high}]" if int(found.n) > 1 else f"{mean}{unit} (one seed, no interval)"


def interval_of(at_end: xr.DataArray, condition: str, unit: str = "") -> str:
    """Return a condition's final value with its interval, and the number of seeds if some have no value."""
    found = mean_interval(of_condition(at_end, condition))
    n, runs = int(found.n), len(runs_of(at_end, condition))
    return with_interval(found, unit) + (f" over {n} of {runs} seeds" if 0 < n < runs else "")


def not_compared(values: xr.DataArray, conditions: Iterable[str]) -> str:
    """Return why conditions are not compared, since a rank depends on the number of samples; else ""."""
    of_all = str(values.attrs.get("samples", "")).split(", ")
    each = values.attrs.get("samples_of")
    held = of_all if each is None else [number for m in conditions for number in each.get(m, [])]
    samples = list(dict.fromkeys(held))
    why = f"not compared: runs measured on different numbers of samples ({', '.join(samples)})"
    return why if len(samples) > 1 else ""


def compare(
    numbers: xr.Dataset, at_end: xr.DataArray, treated: str, baseline: str, what: str, *, unit: str = ""
) -> str:
    """Return the finding of a paired difference of final values: below, above, or no detectable difference.

    A missing value may itself be an effect, as in a run that diverged. So if a run has no value, there is no
    finding, whatever the interval of the other seeds.
    """
    found = contrast(at_end, treated, baseline)
    pair = f"{label(treated)} − {label(baseline)}"
    n = int(found.n)
    if n == 0:
        return (
            f"{what}: no seed has a value for both {label(treated)} and {label(baseline)}, so no runs are "
            "paired; `fadiag compare` compares unpaired runs"
        )
    difference = f"{pair} = {with_interval(found, unit)}"
    alone = _unpaired(at_end, treated, baseline)
    if n == 1:
        return (
            f"{what}: one seed cannot show whether {label(treated)} differs from {label(baseline)} "
            f"({difference}){alone}"
        )
    over = f"95 % t interval over {n} paired seeds"
    if _lacks_runs(numbers, at_end):
        unclear = f"unclear whether {label(treated)} differs from {label(baseline)}, since runs lack a value"
        return f"{what}: {unclear} ({difference}, {over} that have one){alone}"
    if float(found.low) <= 0.0 <= float(found.high):
        none = f"no detectable difference between {label(treated)} and {label(baseline)}"
        return f"{what}: {none} ({difference}, {over}, includes 0){alone}"
    side = "below" if float(found.mean) < 0 else "above"
    return f"{what}: {label(treated)} is {side} {label(baseline)} ({difference}, {over}){alone}"


def brief(
    numbers: xr.Dataset, at_end: xr.DataArray, treated: str, baseline: str, what: str, *, unit: str = ""
) -> str:
    """Return the finding of a paired difference in few words, see `compare`."""
    found = contrast(at_end, treated, baseline)
    n = int(found.n)
    if n == 0:
        return f"{what} without a pair of seeds"
    difference = f"{with_interval(found, unit)}, {n} paired seeds" if n > 1 else with_interval(found, unit)
    difference += _unpaired(at_end, treated, baseline)
    if n == 1:
        return f"{what} unclear from one seed ({difference})"
    if _lacks_runs(numbers, at_end):
        return f"{what} unclear, since runs lack a value ({difference})"
    if float(found.low) <= 0.0 <= float(found.high):
        return f"no detectable difference in {what} ({difference})"
    return f"{what} {'lower' if float(found.mean) < 0 else 'higher'} ({difference})"


def _lacks_runs(numbers: xr.Dataset, at_end: xr.DataArray) -> bool:
    """Return whether a run has no final value, or was lost and may belong to any condition."""
    return bool(runs_without_value(at_end) or numbers.attrs["lost_runs"])


def _unpaired(values: xr.DataArray, treated: str, baseline: str) -> str:
    """Return in words the seeds that only one of two conditions has."""
    alone = []
    for condition, other in ((treated, baseline), (baseline, treated)):
        seeds = [str(seed) for seed in runs_of(values, other) if seed not in runs_of(values, condition)]
        if seeds:
            alone.append(f"; {label(condition)} has no run of seed {', '.join(seeds)}")
    return "".join(alone)


def ceiling(numbers: xr.Dataset, name: str, at_end: xr.DataArray) -> str:
    """Return in words how many final values of a rank in one layer are at the ceiling; "" if none is."""
    mark = numbers.get(f"{name}_{AT_CEILING}")
    if mark is None or int(at_end["step"]) < 0:
        return ""
    here = mark.sel(layer=at_end["layer"], step=at_end["step"])
    counts = [
        f"{reached} of {int(np.isfinite(own).sum())} {label(str(condition))} runs"
        for condition in at_end["condition"].values
        if (reached := int((own := of_condition(here, condition)).sum()))
    ]
    return f"; at its ceiling, within 1 % of min(N, n), in {' and '.join(counts)}" if counts else ""


def when(at_end: xr.DataArray) -> str:
    """Return the step of final values in words, with the runs that have no value there."""
    step, ends = int(at_end["step"]), at_end["last_step"]
    known = {label(str(m)): int(end) for m, end in zip(ends["condition"].values, ends.values, strict=True)}
    later = [f"{name} ends at step {end}" for name, end in known.items() if end > step]
    until = int(at_end["recorded_until"])
    gone = runs_without_value(at_end)
    why = [f"{named(gone)} no value there"] if gone else []
    which = LAST
    if later:
        which = "no shared step" if step < 0 else f"step {step}, the last shared step"
        why.insert(0, ", ".join(later))
    elif step < until and max(known.values()) == step:
        which = f"step {step}"
        why.insert(0, f"no later step has a value; the results go up to step {until}")
    return f"{which} ({'; '.join(why)})" if why else which


def elsewhere(values: xr.DataArray, step: int) -> str:
    """Return the step of the values in words if it is not the step that the sentence names; else ""."""
    at = int(values["step"])
    return "" if at == step else f" at step {at}"


def hidden_layers(numbers: xr.Dataset) -> list[str]:
    """Return the layers of a pass except the last; if there is one layer only, return that layer."""
    layers = [str(layer) for layer in numbers.attrs.get("passed", numbers["layer"].values)]
    return layers[:-1] or layers


def output_layer(numbers: xr.Dataset) -> str:
    """Return the last layer of a pass."""
    return str(numbers.attrs.get("passed", numbers["layer"].values)[-1])


def last_hidden(numbers: xr.Dataset) -> str:
    """Return the layer of the captions: the one that the study declared, else the one below the output."""
    declared = str(numbers.attrs.get("primary_layer"))
    return declared if declared in numbers["layer"].values else hidden_layers(numbers)[-1]


def small_print(array: xr.DataArray) -> str:
    """Return the small print on the numbers of a figure: N, probe mode, split, seeds and interval."""
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
    if "centered" in attrs:
        parts.append("mean row removed (centered)" if attrs["centered"] else "mean row not removed (raw)")
    if attrs.get("k"):
        parts.append(f"k = {attrs['k']}" + (f" ({attrs['k_source']})" if "k_source" in attrs else ""))
    run = array.notnull().any([d for d in array.dims if d not in ("condition", "seed")])
    counts = sorted({int(n) for n in run.sum("seed").values if n})
    seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    parts.append(f"{seeds} seed{'' if seeds == '1' else 's'} per condition; every seed is shown")
    parts.append(
        "mean with 95 % t interval over seeds" if counts and counts[-1] > 1 else "no interval from one seed"
    )
    return "; ".join(parts) + "."
