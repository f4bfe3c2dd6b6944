"""Rank of error and modulator in each layer against training: FA beside BP beside the layer's own gates."""

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
NULLS = tuple(f"{name}_mask_null_{end}" for name in RANK_LABELS for end in ("low", "high"))
#: Ranks that a study may declare as its primary metric, and that are not drawn.
CENTERED = ("error_participation_ratio_centered", "error_effective_rank_centered")
SHOWN = ("bp", "fa")


def _plot(numbers: xr.Dataset) -> Canvas:
    shown = first_with_values(numbers, RANK_LABELS)
    conditions = conditions_in(numbers[shown], SHOWN)
    layers = layers_shown(numbers)
    wide = len(layers)
    canvas = Canvas(figsize=(PAGE, 1.45 * len(RANK_LABELS) + 0.8), layout="constrained")
    axes = canvas.subplots(len(RANK_LABELS), len(layers), sharex=True, squeeze=False)
    masked = False
    for row, (name, words) in enumerate(RANK_LABELS.items()):
        for column, layer in enumerate(layers):
            ax, one = axes[row, column], numbers[name].sel(layer=layer)
            if not one.notnull().any():
                note(ax, fitted("not recorded", wide))
                ax.set_yticks([])
                ax.grid(visible=False)
            else:
                masked |= null_band(ax, numbers, f"{name}_mask_null", conditions[-1], layer=layer)
                curves(ax, one, conditions, numbers)
                ax.set_ylim(bottom=0)
            if row == 0:
                ax.set_title(fitted(layer, wide))
            if column == 0:
                ax.set_ylabel(words)
            if row == len(RANK_LABELS) - 1:
                ax.set_xlabel(step_label(wide))
    null = f"mask null of {label(conditions[-1])}, central 95 %" if masked else ""
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
        finding = f"{what}, mean [95 % t interval]: {', '.join(each) or 'no run has one'}"
    return finding + ceiling(numbers, name, at_end) + _gates(numbers, name, layer, int(at_end["step"])) + "."


def _rank_to_report(numbers: xr.Dataset) -> str:
    declared = str(numbers.attrs.get("primary_metric"))
    return declared if declared in numbers else first_with_values(numbers, RANK_LABELS)


def _gates(numbers: xr.Dataset, reported: str, layer: str, step: int) -> str:
    """Say how many FA runs are inside their mask null at a step: whether the gates alone give the rank.

    Mask nulls are of raw ranks: for a centered rank, the sentence names and counts the raw one.
    """
    name = reported.replace("_centered", "_raw")
    words = "raw" if name == reported else name.partition("_")[2].replace("_", " ")
    if f"{name}_mask_null_low" not in numbers or "fa" not in numbers["condition"] or step < 0:
        return ""
    numbers = numbers.sel(step=slice(step))
    rank, low = beside_null(numbers, name, f"{name}_mask_null_low", "fa", layer)
    _, high = beside_null(numbers, name, f"{name}_mask_null_high", "fa", layer)
    drawn, outside = low.notnull() & high.notnull(), exceeds(low, rank) | exceeds(rank, high)
    known, inside = int(drawn.sum()), int((drawn & ~outside).sum())
    at = elsewhere(rank, step)
    return (
        f"; {inside} of {known} FA runs lie inside what their gates alone would give{at} "
        f"({words}, mask null, 95 %)"
        if known
        else ""
    )


RANK = Figure(
    name="rank",
    title="Rank of error and modulator",
    needs=tuple(RANK_LABELS),
    optional=(*NULLS, *CENTERED, *(f"{name}_{AT_CEILING}" for name in (*RANK_LABELS, *CENTERED))),
    plot=_plot,
    sentence=_sentence,
)
