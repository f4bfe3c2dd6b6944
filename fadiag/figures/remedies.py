"""Draw accuracy and rank at the end of training for each condition."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from fadiag.figures.captions import (
    LAST,
    brief,
    ceiling,
    last_hidden,
    not_compared,
    per_cent,
    small_print,
    when,
)
from fadiag.figures.figure import Figure
from fadiag.figures.layer_columns import fitted
from fadiag.figures.panels import conditions_in, finish, first_with_values
from fadiag.figures.style import PAGE, color, label
from fadiag.results import final_values, mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.null_values import AT_CEILING

__all__ = ["REMEDIES"]

RANKS = {
    "error_participation_ratio_raw": "participation ratio of the error, raw",
    "error_effective_rank_raw": "effective rank of the error, raw",
}


def _dots(ax: Axes, at_end: xr.DataArray, everyone: list[str]) -> None:
    for place, condition in enumerate(everyone):
        runs = of_condition(at_end, condition).dropna("seed")
        if not runs.size:
            continue
        over, tint = mean_interval(runs), color(condition, everyone)
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
        # Dots are spread in the order of the seeds, not at random, so that a figure can be reproduced.
        ax.plot(
            runs, place + np.linspace(-0.18, 0.18, runs.size) * (runs.size > 1), "o", color=tint, markersize=3
        )


def _plot(numbers: xr.Dataset) -> Canvas:
    layer = last_hidden(numbers)
    everyone = [str(m) for m in numbers["condition"].values]
    canvas = Canvas(figsize=(PAGE, 0.34 * len(everyone) + 0.95), layout="constrained")
    axes = canvas.subplots(1, 1 + len(RANKS), sharey=True)
    shown = {"test accuracy (%)": per_cent(numbers["test_accuracy"])}
    shown |= {f"{words}, {layer}": numbers[name].sel(layer=layer) for name, words in RANKS.items()}
    at_end = {words: final_values(values) for words, values in shown.items()}
    for ax, (words, values) in zip(axes, at_end.items(), strict=True):
        _dots(ax, values, everyone)
        ax.set(xlabel=fitted(words, len(shown), letters=16))
    axes[0].set_yticks(range(len(everyone)), [label(m) for m in everyone])
    axes[0].set_ylim(len(everyone) - 0.5, -0.5)
    steps = "; at ".join(dict.fromkeys(when(values) for values in at_end.values()))
    finish(canvas, numbers, [], f"At {steps}. " + small_print(numbers[first_with_values(numbers, RANKS)]))
    return canvas


def _sentence(numbers: xr.Dataset) -> str:
    layer, name = last_hidden(numbers), first_with_values(numbers, RANKS)
    rank = numbers[name].sel(layer=layer)
    conditions = conditions_in(rank)
    remedies = [m for m in conditions if m.startswith("fa+")]
    if "fa" not in conditions or not remedies:
        return "The results do not hold FA runs both with and without a remedy, so nothing is compared."
    words = {f"the error's raw {RANKS[name].partition(' of')[0]} at {layer}": ("rank", rank, "")}
    if "test_accuracy" not in numbers.attrs["missing"]:
        words["in test accuracy"] = ("accuracy", per_cent(numbers["test_accuracy"]), " points")
    parts, steps = [], set()
    for remedy in remedies:
        pair = ("fa", remedy)
        each = [_against_fa(numbers, values, remedy, what, unit) for what, values, unit in words.values()]
        each[0] += ceiling(numbers, name, final_values(rank, pair)).replace(";", ",")
        parts.append(f"{label(remedy)}: {', '.join(each)}")
        steps |= {when(final_values(values, pair)) for _, values, _ in words.values()}
    unless = "" if steps == {LAST} else ", unless stated"
    return (
        f"Against FA at {LAST}{unless} (paired differences in {' and '.join(words)}, 95 % t intervals): "
        f"{'; '.join(parts)}."
    )


def _against_fa(numbers: xr.Dataset, values: xr.DataArray, remedy: str, what: str, unit: str) -> str:
    if why := not_compared(values, ("fa", remedy)):
        return f"{what} {why}"
    at_end = final_values(values, ("fa", remedy))
    step = when(at_end)
    at = "" if step == LAST else f" at {step}"
    return brief(numbers, at_end, remedy, "fa", what, unit=unit) + at


REMEDIES = Figure(
    name="remedies",
    title="What the remedies do to rank and accuracy",
    needs=("test_accuracy", *RANKS),
    optional=tuple(f"{name}_{AT_CEILING}" for name in RANKS),
    plot=_plot,
    sentence=_sentence,
)
