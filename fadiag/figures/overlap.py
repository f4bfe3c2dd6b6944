"""Draw the overlap of the leading directions of the error with those of the true error."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import elsewhere, interval_of, last_hidden, small_print, when
from fadiag.figures.figure import Figure
from fadiag.figures.layer_columns import fitted, layers_shown, of_all, step_label
from fadiag.figures.panels import conditions_in, curves, finish, note, null_band, without_bp
from fadiag.figures.style import PAGE, label
from fadiag.results import final_values
from fadiag.results.by_condition import of_condition
from fadiag.results.null_values import above_null

__all__ = ["OVERLAP"]

NAME = "error_overlap"
DIMENSION = f"{NAME}_dimension"
NULLS = tuple(f"{NAME}_null_{end}" for end in ("low", "high"))


def _plot(numbers: xr.Dataset) -> Canvas:
    conditions = without_bp(conditions_in(numbers[NAME]))
    layers = layers_shown(numbers)
    wide = len(layers)
    canvas = Canvas(figsize=(PAGE, 2.6), layout="constrained")
    axes = canvas.subplots(1, len(layers), sharex=True, sharey=True, squeeze=False)[0]
    nulls = False
    for ax, layer in zip(axes, layers, strict=True):
        one = numbers[NAME].sel(layer=layer)
        if set(conditions).isdisjoint(conditions_in(one)):
            note(ax, fitted("not recorded", wide))
        else:
            nulls |= null_band(ax, numbers, f"{NAME}_null", conditions[0], layer=layer)
            curves(ax, one, conditions, numbers)
        ax.set(title=fitted(layer, wide), xlabel=step_label(wide), ylim=(-0.02, 1.05))
    axes[0].set_ylabel("overlap of error\nwith error_bp")
    null = f"redrawn B ({label(conditions[0])}), central 95 %" if nulls else ""
    finish(canvas, numbers, conditions, small_print(numbers[NAME]) + of_all(layers, numbers), null=null)
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    layer = last_hidden(numbers)
    overlap = numbers[NAME].sel(layer=layer)
    conditions = without_bp(conditions_in(overlap, ("bp", "fa")))
    if not conditions:
        return f"No run has an overlap of error with error_bp at {layer}."
    condition = conditions[0]
    at_end = final_values(overlap, (condition,))
    finding = (
        f"At {layer}, {when(at_end).removeprefix('the ')}, {label(condition)}'s error shares "
        f"{interval_of(at_end, condition)} of its leading subspace ({_dimension(numbers, condition)}, raw) "
        "with the true error (overlap, mean [95 % t interval])"
    )
    found = above_null(numbers, NAME, condition, layer)
    if found is None:
        return f"{finding}; no redrawn feedback was recorded for this layer, so the chance level is unknown."
    above, known, values = found
    at = elsewhere(values, int(at_end["step"]))
    return f"{finding}; {above} of {known} seeds are above the central 95 % of redrawn feedback{at}."


def _dimension(numbers: xr.Dataset, condition: str) -> str:
    """Return the dimension k of the subspaces in the caption's layer, and the source if it is a guess."""
    attrs = numbers[NAME].attrs
    k = str(attrs.get("k", "unknown"))
    if DIMENSION in numbers:  # smaller in a layer with fewer directions
        held = of_condition(numbers[DIMENSION].sel(layer=last_hidden(numbers)), condition).values
        k = " or ".join(f"{each:.0f}" for each in np.unique(held[np.isfinite(held)])) or k
    return f"k = {k}, {attrs['k_source']}" if "k_source" in attrs else f"k = {k}"


OVERLAP = Figure(
    name="overlap",
    title="Overlap of the error with the true error",
    needs=(NAME,),
    optional=(*NULLS, DIMENSION),
    plot=_plot,
    sentence=_sentence,
)
