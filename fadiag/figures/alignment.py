"""Draw the alignment of weights with their feedback, and of errors with the true errors."""

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import elsewhere, interval_of, last_hidden, output_layer, small_print, when
from fadiag.figures.figure import Figure
from fadiag.figures.layer_columns import fitted, layers_shown, of_all, step_label
from fadiag.figures.panels import (
    conditions_in,
    curves,
    finish,
    first_with_values,
    note,
    null_band,
    without_bp,
)
from fadiag.figures.style import PAGE, label
from fadiag.results import final_values
from fadiag.results.null_values import above_null

__all__ = ["ALIGNMENT"]

ALIGNMENT_LABELS = {
    "weight_feedback_cosine": ("cos(W, B)", "no feedback matrix\npasses credit below"),
    "error_cosine": ("cos(error, error_bp)", "not recorded"),
}
NULLS = tuple(f"{name}_null_{end}" for name in ALIGNMENT_LABELS for end in ("low", "high"))


def _plot(numbers: xr.Dataset) -> Canvas:
    shown = first_with_values(numbers, ("error_cosine", "weight_feedback_cosine"))
    conditions = without_bp(conditions_in(numbers[shown]))
    layers = layers_shown(numbers)
    wide = len(layers)
    canvas = Canvas(figsize=(PAGE, 4.2), layout="constrained")
    axes = canvas.subplots(len(ALIGNMENT_LABELS), len(layers), sharex=True, sharey="row", squeeze=False)
    nulls = False
    for row, (name, (words, absent)) in enumerate(ALIGNMENT_LABELS.items()):
        for column, layer in enumerate(layers):
            ax, one = axes[row, column], numbers[name].sel(layer=layer)
            if not set(conditions).isdisjoint(conditions_in(one)):
                ax.axhline(0, color="#bbbbbb", linewidth=0.6)
                nulls |= null_band(ax, numbers, f"{name}_null", conditions[0], layer=layer)
                curves(ax, one, conditions, numbers)
            else:
                note(ax, fitted(absent, wide))
            if row == 0:
                ax.set_title(fitted(layer, wide))
            if column == 0:
                ax.set_ylabel(words)
            if row == len(ALIGNMENT_LABELS) - 1:
                ax.set_xlabel(step_label(wide))
    null = "chance (B unrelated to W; redrawn B), 95 %" if nulls else ""
    print_ = (
        small_print(numbers[shown])
        + " The output layer's error is exact in every rule: its cosine is 1."
        + of_all(layers, numbers)
    )
    finish(canvas, numbers, conditions, print_, null=null, columns=3)
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    layer, output = last_hidden(numbers), output_layer(numbers)
    error = numbers["error_cosine"].sel(layer=layer)
    conditions = without_bp(conditions_in(error, ("bp", "fa")))
    if not conditions:
        return f"No run has a cosine of error and error_bp at {layer}."
    condition = conditions[0]
    # The credit of the last hidden layer comes through the output layer's feedback.
    weight = final_values(numbers["weight_feedback_cosine"].sel(layer=output), (condition,))
    error = final_values(error, (condition,))
    step, other = when(weight), when(error)
    of_weight, of_error = (interval_of(values, condition) for values in (weight, error))
    at = "" if other == step else f", at {other},"
    return (
        f"At {step} {label(condition)} has cos(W, B) = {of_weight} "
        f"at {output}{_beyond(numbers, weight, 'weight_feedback_cosine', condition, output)} "
        f"and{at} cos(error, error_bp) = {of_error} at {layer}"
        f"{_beyond(numbers, error, 'error_cosine', condition, layer)}; mean [95 % t interval]."
    )


def _beyond(numbers: xr.Dataset, at_end: xr.DataArray, name: str, condition: str, layer: str) -> str:
    """Return in words how many seeds are above their null."""
    found = above_null(numbers, name, condition, layer)
    if found is None:
        return " (chance level unknown)"
    above, known, values = found
    return f" (above chance in {above} of {known} seeds{elsewhere(values, int(at_end['step']))})"


ALIGNMENT = Figure(
    name="alignment",
    title="Alignment of weights and errors",
    needs=tuple(ALIGNMENT_LABELS),
    optional=NULLS,
    plot=_plot,
    sentence=_sentence,
)
