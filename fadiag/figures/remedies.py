"""Accuracy and rank at the end of training, method by method."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fadiag.figures.figure import Figure
from fadiag.figures.interval import contrast, interval
from fadiag.figures.panels import finish, methods_in
from fadiag.figures.style import PAGE, colour, label
from fadiag.figures.table import final, of
from fadiag.figures.wording import brief, last_hidden, per_cent, small_print

__all__ = ["REMEDIES"]

RANKS = {
    "error_participation_ratio_raw": "participation ratio of the error",
    "error_effective_rank_raw": "effective rank of the error",
}


def _dots(ax: Axes, at_end: xr.DataArray, everyone: list[str]) -> None:
    for place, method in enumerate(everyone):
        runs = of(at_end, method).dropna("seed")
        if not runs.size:
            continue
        over, tint = interval(runs), colour(method, everyone)
        if runs.size > 1:
            ax.plot(
                [over.low, over.high],
                [place, place],
                color=tint,
                linewidth=1.6,
                alpha=0.6,
                solid_capstyle="butt",
            )
        ax.plot([over.mean], [place], marker="|", color=tint, markersize=9, markeredgewidth=1.6)
        # Spread by rank in the seeds, not at random: the same results give the same picture.
        ax.plot(
            runs, place + np.linspace(-0.18, 0.18, runs.size) * (runs.size > 1), "o", color=tint, markersize=3
        )


def _plot(numbers: xr.Dataset) -> Canvas:
    layer = last_hidden(numbers)
    everyone = [str(m) for m in numbers["method"].values]
    canvas = Canvas(figsize=(PAGE, 0.34 * len(everyone) + 0.95), layout="constrained")
    axes = canvas.subplots(1, 1 + len(RANKS), sharey=True)
    _dots(axes[0], final(per_cent(numbers["test_accuracy"])), everyone)
    axes[0].set(xlabel="test accuracy (%)")
    for ax, (name, words) in zip(axes[1:], RANKS.items(), strict=True):
        _dots(ax, final(numbers[name].sel(layer=layer)), everyone)
        ax.set(xlabel=f"{words}, {layer}")
    axes[0].set_yticks(range(len(everyone)), [label(m) for m in everyone])
    axes[0].set_ylim(len(everyone) - 0.5, -0.5)
    finish(canvas, [], everyone, "At the last step. " + small_print(numbers[next(iter(RANKS))]))
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    layer, name = last_hidden(numbers), "error_participation_ratio_raw"
    rank, accuracy = final(numbers[name].sel(layer=layer)), final(per_cent(numbers["test_accuracy"]))
    methods = methods_in(rank)
    remedies = [m for m in methods if m.startswith("fa+")]
    if "fa" not in methods or not remedies:
        return "The results hold no FA run with a remedy beside it, so nothing is compared."
    parts = []
    for remedy in remedies:
        higher = brief(contrast(rank, remedy, "fa"))
        better = brief(contrast(accuracy, remedy, "fa"), " points")
        parts.append(f"{label(remedy)}: rank {higher}, accuracy {better}")
    return (
        f"Against FA at the last step (paired differences in the error's participation ratio at {layer} and "
        f"in test accuracy, 95 % t intervals): {'; '.join(parts)}."
    )


REMEDIES = Figure(
    name="remedies",
    title="What the remedies do to rank and accuracy",
    needs=("test_accuracy", *RANKS),
    optional=(),
    plot=_plot,
    sentence=_sentence,
)
