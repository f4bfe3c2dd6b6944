"""Write numbers and findings as sentences of a caption."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from fadiag.figures.look.theme import label
from fadiag.figures.words.definition import samples_of
from fadiag.figures.words.shared import alone, of_seeds, placed, spans_zero
from fadiag.results import MeanInterval, contrast, mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.intervals import cut_interval
from fadiag.results.without_value import dead_runs, named, runs_of, runs_without_value
from fadiag.store.tools.printable import printable

__all__ = [
    "LAST",
    "contrasts",
    "each",
    "finding",
    "interval_of",
    "not_compared",
    "number",
    "when",
    "with_interval",
]

#: The step in figures and sentences, if all conditions end at the same step.
LAST = "the last step"


def number(value: float) -> str:
    """Return a number with three significant digits and a true minus sign.

    >>> number(-0.01234), number(186.4), number(float("nan"))
    ('−0.0123', '186', 'no value')
    """
    if not np.isfinite(value):
        return "no value"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def with_interval(found: MeanInterval, unit: str = "", *, paired: bool = False) -> str:
    """Return ``mean [low, high]`` with a mark of its seeds, or the mean and why it has no interval."""
    mean, low, high = (number(float(x)) for x in (found.mean, found.low, found.high))
    n = int(found.n)
    if not n:
        return mean
    if n == 1 or not np.isfinite(float(found.low)):
        return f"{mean}{unit}{alone(n)}"
    return f"{mean}{unit} [{low}, {high}]{of_seeds(n, paired=paired)}"


def interval_of(at_end: xr.DataArray, condition: str, unit: str = "") -> str:
    """Return a condition's final value with its interval."""
    possible = at_end.attrs.get("possible", (-np.inf, np.inf))
    return with_interval(cut_interval(mean_interval(of_condition(at_end, condition)), *possible), unit)


def each(at_end: xr.DataArray, conditions: Iterable[str], unit: str = "") -> str:
    """Return the final value of every condition: ``bp 0.97 [0.96, 0.98], fa 0.9 (one seed, no interval)``.

    Intervals and places in these sentences have marks, see `fadiag.figures.words.shared`.
    """
    return ", ".join(f"{label(name)} {interval_of(at_end, name, unit)}" for name in conditions)


def not_compared(values: xr.DataArray, conditions: Iterable[str]) -> str:
    """Return why conditions are not compared, since a rank depends on the number of samples; else ""."""
    if "samples_of" in values.attrs:
        of = samples_of(values, conditions)
        listed = [f"{', '.join(map(label, names))} {n}" for n, names in of.items()]
        several = len({n for held in of for n in held.split(", ")}) > 1
    else:
        listed = str(values.attrs.get("samples", "")).split(", ")
        several = len(listed) > 1
    why = f"not compared: runs measured on different numbers of samples ({', '.join(listed)})"
    return why if several else ""


def contrasts(
    at_end: xr.DataArray, treated: Sequence[str], baseline: str, *, unit: str = "", lost: bool = False
) -> str:
    """Return how every condition differs from the baseline, paired by seed.

    A missing value may itself be an effect, as in a run that diverged. So if a run has no value, or was
    `lost`, there is no finding, whatever the interval of the other seeds.
    """
    return "; ".join(_contrast(at_end, name, baseline, unit, lost) for name in treated)


def _contrast(at_end: xr.DataArray, treated: str, baseline: str, unit: str, lost: bool) -> str:
    if why := not_compared(at_end, (treated, baseline)):
        return f"{label(treated)} and {label(baseline)} {why}"
    found = contrast(at_end, treated, baseline)
    n = int(found.n)
    if n == 0:
        return (
            f"no seed has a value for both {label(treated)} and {label(baseline)}, so no runs are paired; "
            "`fadiag compare` compares unpaired runs"
        )
    difference = f"{label(treated)} − {label(baseline)} = {with_interval(found, unit, paired=True)}"
    difference += _unpaired(at_end, treated, baseline)
    if n > 1 and (lost or runs_without_value(at_end.sel({"condition": [treated, baseline]}))):
        return f"{difference} (unclear, since runs lack a value)"
    return difference + (spans_zero() if float(found.low) <= 0.0 <= float(found.high) else "")


def _unpaired(values: xr.DataArray, treated: str, baseline: str) -> str:
    """Return in words the seeds that only one of two conditions has."""
    alone = []
    for condition, other in ((treated, baseline), (baseline, treated)):
        seeds = [str(seed) for seed in runs_of(values, other) if seed not in runs_of(values, condition)]
        if seeds:
            alone.append(f", {label(condition)} has no run of seed {printable(', '.join(seeds))}")
    return "".join(alone)


def when(at_end: xr.DataArray) -> str:
    """Return the step of final values in words, with the runs that have no value there."""
    step, ends = int(at_end["step"]), at_end["last_step"]
    known = {label(str(m)): int(end) for m, end in zip(ends["condition"].values, ends.values, strict=True)}
    later = [f"{name} ends at step {end}" for name, end in known.items() if end > step]
    until = int(at_end["recorded_until"])
    dead = dead_runs(at_end)
    somewhere = " at some layer" if "layer" in at_end.dims else ""
    gone = [run for run in runs_without_value(at_end) if not any(run in runs for runs in dead.values())]
    why = [f"{printable(named(gone))} no value there"] if gone else []
    why += [
        f"dead, with rank 0, and left out{somewhere}: {len(runs)} of {len(runs_of(at_end, name))} runs of "
        f"{label(name)}"
        for name, runs in dead.items()
    ]
    which = LAST
    if "chosen_step" in at_end.attrs:
        which = f"step {step}"
    elif later:
        which = "no shared step" if step < 0 else f"step {step}, the last shared step"
        why.insert(0, ", ".join(later))
    elif step < until and max(known.values()) == step:
        which = f"step {step}"
        why.insert(0, f"no later step has a value; the results go up to step {until}")
    elif step >= 0:
        why.insert(0, str(step))
    return f"{which} ({'; '.join(why)})" if why else which


def finding(
    at_end: xr.DataArray,
    conditions: Sequence[str],
    baseline: str,
    *,
    layer: str = "",
    unit: str = "",
    lost: bool = False,
    declared: bool = False,
) -> str:
    """Return what every condition shows at one layer and step: against the baseline, or its own mean."""
    place = placed(layer, when(at_end))
    primary = "declared primary metric, " if declared else ""
    treated = [name for name in conditions if name != baseline]
    if baseline and treated:
        return f"{place}{primary}{contrasts(at_end, treated, baseline, unit=unit, lost=lost)}"
    why = not_compared(at_end, conditions)
    apart = f"{why}: " if why else ""
    return f"{place}{primary}{apart}{each(at_end, conditions, unit)}"
