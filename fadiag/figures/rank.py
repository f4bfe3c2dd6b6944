"""Draw the rank of error and modulator in each layer over training, for FA, BP and the gate null."""

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import (
    ceiling,
    compare,
    elsewhere,
    interval_of,
    last_hidden,
    not_compared,
    small_print,
    when,
)
from fadiag.figures.figure import Figure
from fadiag.figures.layer_columns import fitted, layers_shown, of_all, step_label
from fadiag.figures.panels import conditions_in, curves, finish, first_with_values, note, null_band
from fadiag.figures.style import PAGE, label
from fadiag.results import final_values
from fadiag.results.null_values import AT_CEILING, beside_null, exceeds

__all__ = ["RANK"]

RANK_LABELS = {
    "error_participation_ratio_raw": "error, raw\nparticipation ratio",
    "modulator_participation_ratio_raw": "modulator, raw\nparticipation ratio",
    "error_effective_rank_raw": "error, raw\neffective rank",
    "modulator_effective_rank_raw": "modulator, raw\neffective rank",
}
#: Ranks without a panel that a study may declare as its primary metric.
CENTERED = ("error_participation_ratio_centered", "error_effective_rank_centered")
NULLS = tuple(f"{name}_gate_null_{end}" for name in (*RANK_LABELS, *CENTERED) for end in ("low", "high"))
SHOWN = ("bp", "fa")


def _plot(numbers: xr.Dataset) -> Canvas:
    shown = first_with_values(numbers, RANK_LABELS)
    conditions = conditions_in(numbers[shown], SHOWN)
    layers = layers_shown(numbers)
    wide = len(layers)
    canvas = Canvas(figsize=(PAGE, 1.45 * len(RANK_LABELS) + 0.8), layout="constrained")
    axes = canvas.subplots(len(RANK_LABELS), len(layers), sharex=True, squeeze=False)
    banded = False
    for row, (name, words) in enumerate(RANK_LABELS.items()):
        for column, layer in enumerate(layers):
            ax, one = axes[row, column], numbers[name].sel(layer=layer)
            if not one.notnull().any():
                note(ax, fitted("not recorded", wide))
                ax.set_yticks([])
                ax.grid(visible=False)
            else:
                banded |= null_band(ax, numbers, f"{name}_gate_null", conditions[-1], layer=layer)
                curves(ax, one, conditions, numbers)
                ax.set_ylim(bottom=0)
            if row == 0:
                ax.set_title(fitted(layer, wide))
            if column == 0:
                ax.set_ylabel(words)
            if row == len(RANK_LABELS) - 1:
                ax.set_xlabel(step_label(wide))
    null = f"gate null of {label(conditions[-1])}, central 95 %" if banded else ""
    print_ = small_print(numbers[shown]) + of_all(layers, numbers)
    finish(canvas, numbers, conditions, print_, null=null)
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    layer, name = last_hidden(numbers), _rank_to_report(numbers)
    rank = numbers[name].sel(layer=layer)
    conditions = conditions_in(rank, SHOWN)
    at_end = final_values(rank, conditions)
    declared = ", the declared primary metric" if name == numbers.attrs.get("primary_metric") else ""
    signal, _, words = name.replace("_", " ").partition(" ")
    what = f"{words.capitalize()} of the {signal} at {layer}, {when(at_end).removeprefix('the ')}{declared}"
    if conditions == ["bp", "fa"] and (why := not_compared(rank, conditions)):
        finding = f"{what}: {why}"
    elif conditions == ["bp", "fa"]:
        finding = compare(numbers, at_end, "fa", "bp", what)
    else:
        each = (f"{label(m)} {interval_of(at_end, m)}" for m in conditions)
        finding = f"{what}, mean [95 % t interval]: {', '.join(each) or 'no run has a value'}"
    return finding + ceiling(numbers, name, at_end) + _gates(numbers, name, layer, int(at_end["step"])) + "."


def _rank_to_report(numbers: xr.Dataset) -> str:
    declared = str(numbers.attrs.get("primary_metric"))
    return declared if declared in numbers else first_with_values(numbers, RANK_LABELS)


def _gates(numbers: xr.Dataset, name: str, layer: str, step: int) -> str:
    """Return in words how many FA and BP runs are beyond their gate null, at a step and at step 0.

    Within the null, the credit's spectrum and the gates alone explain the rank. BP and step 0 show the null
    of runs in which no feedback has acted.
    """
    if f"{name}_gate_null_low" not in numbers or step < 0:
        return ""
    ends = [numbers.sel(step=slice(until)) for until in dict.fromkeys((step, 0)) if until in numbers["step"]]
    counted = []
    for condition in (c for c in reversed(SHOWN) if c in numbers["condition"]):
        counts = [count for end in ends if (count := _beyond(end, name, condition, layer, step))]
        if counts:
            counted.append(f"{label(condition)} {', '.join(dict.fromkeys(counts))}")
    how = "centered" if name.endswith("_centered") else "raw"
    words = f"{name.replace('_', ' ').removesuffix(how)}{how}"
    beyond = f"; runs beyond the central 95 % of their gate null ({words}): "
    return beyond + "; ".join(counted) if counted else ""


def _beyond(numbers: xr.Dataset, name: str, condition: str, layer: str, step: int) -> str:
    """Return in words how many of a condition's runs are below and above their gate null at the last step."""
    rank, low = beside_null(numbers, name, f"{name}_gate_null_low", condition, layer)
    _, high = beside_null(numbers, name, f"{name}_gate_null_high", condition, layer)
    drawn = low.notnull() & high.notnull()
    known = int(drawn.sum())
    below, above = (int((drawn & beyond).sum()) for beyond in (exceeds(low, rank), exceeds(rank, high)))
    at = elsewhere(rank, step)
    return f"{below} below and {above} above of {known}{at}" if known else ""


RANK = Figure(
    name="rank",
    title="Rank of error and modulator",
    needs=tuple(RANK_LABELS),
    optional=(*NULLS, *CENTERED, *(f"{name}_{AT_CEILING}" for name in (*RANK_LABELS, *CENTERED))),
    plot=_plot,
    sentence=_sentence,
)
