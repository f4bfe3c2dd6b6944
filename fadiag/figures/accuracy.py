"""Draw the test accuracy over training."""

import xarray as xr
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import compare, interval_of, per_cent, small_print, when
from fadiag.figures.figure import Figure
from fadiag.figures.panels import conditions_in, curves, finish
from fadiag.figures.style import COLUMN, label
from fadiag.results import final_values

__all__ = ["ACCURACY"]

NAME = "test_accuracy"


def _plot(numbers: xr.Dataset) -> Canvas:
    accuracy = per_cent(numbers[NAME])
    conditions = conditions_in(accuracy)
    canvas = Canvas(figsize=(COLUMN * 1.25, 3.0), layout="constrained")
    ax = canvas.add_subplot()
    curves(ax, accuracy, conditions, numbers)
    ax.set(xlabel="training step", ylabel="test accuracy (%)", ylim=(0, 101))
    finish(canvas, numbers, conditions, small_print(numbers[NAME]), columns=3)
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    accuracy = per_cent(numbers[NAME])
    conditions = conditions_in(accuracy)
    pair = "bp" in conditions and "fa" in conditions
    at_end = final_values(accuracy, ("bp", "fa") if pair else ())
    what = f"Test accuracy at {when(at_end)}"
    if pair:
        return compare(numbers, at_end, "fa", "bp", what, unit=" points") + "."
    each = (f"{label(m)} {interval_of(at_end, m, ' %')}" for m in conditions)
    return f"{what}, mean [95 % t interval]: {', '.join(each) or 'no run has a value'}."


ACCURACY = Figure(
    name="accuracy",
    title="Test accuracy",
    needs=(NAME,),
    optional=(),
    plot=_plot,
    sentence=_sentence,
)
