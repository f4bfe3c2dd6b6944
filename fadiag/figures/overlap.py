"""Whether the leading directions of the error are those of the true error."""

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import elsewhere, last_hidden, small_print, when, with_interval
from fadiag.figures.figure import Figure
from fadiag.figures.layer_columns import fitted, layers_shown, of_all, step_label
from fadiag.figures.panels import conditions_in, curves, finish, note, null_band, without_bp
from fadiag.figures.style import PAGE, label
from fadiag.results import final_values, mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.null_values import above_null

__all__ = ["OVERLAP"]

NAME = "error_overlap"
NULLS = tuple(f"{NAME}_null_{end}" for end in ("low", "high"))


def _plot(numbers: xr.Dataset) -> Canvas:
    everyone = [str(m) for m in numbers["condition"].values]
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
            curves(ax, one, conditions, everyone)
        ax.set(title=fitted(layer, wide), xlabel=step_label(wide), ylim=(-0.02, 1.05))
    axes[0].set_ylabel("overlap of error\nwith error_bp")
    null = f"redrawn B ({label(conditions[0])}), central 95 %" if nulls else ""
    finish(canvas, conditions, everyone, small_print(numbers[NAME]) + of_all(layers, numbers), null=null)
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
        f"{with_interval(mean_interval(of_condition(at_end, condition)))} of its leading subspace with "
        "the true error (overlap, mean [95 % t interval])"
    )
    found = above_null(numbers, NAME, condition, layer)
    if found is None:
        return f"{finding}; no redrawn feedback was recorded here, so chance is not known."
    above, known, values = found
    at = elsewhere(values, int(at_end["step"]))
    return f"{finding}; {above} of {known} seeds lie above what redrawn feedback gives{at} (central 95 %)."


OVERLAP = Figure(
    name="overlap",
    title="Overlap of the error with the true error",
    needs=(NAME,),
    optional=NULLS,
    plot=_plot,
    sentence=_sentence,
)
