"""Draw the parts that figures share: curves of seeds and means, null bands, legend and small print."""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fadiag.figures.style import NULL, color, label
from fadiag.results import mean_interval
from fadiag.results.by_condition import of_condition

__all__ = [
    "conditions_in",
    "curves",
    "finish",
    "first_with_values",
    "note",
    "null_band",
    "without_bp",
]

#: With more conditions than this, bands would hide each other.
BANDS = 3
#: A null of at most so many steps is drawn as bars.
FEW = 2


def conditions_in(array: xr.DataArray, wanted: tuple[str, ...] = ()) -> list[str]:
    """Return the conditions that have a value, in order; only the wanted ones, if any of them has one."""
    held = [str(m) for m in array["condition"].values if np.isfinite(of_condition(array, m)).any()]
    return [m for m in wanted if m in held] or held


def without_bp(conditions: list[str]) -> list[str]:
    """Drop BP, whose alignment with the true error is always 1, unless it is the only condition."""
    return [m for m in conditions if m != "bp"] or conditions


def first_with_values(numbers: xr.Dataset, names: Iterable[str]) -> str:
    """Return the first variable that has a value, or the first variable if none has."""
    names = list(names)
    return next((name for name in names if np.isfinite(numbers[name]).any()), names[0])


def curves(ax: Axes, array: xr.DataArray, conditions: list[str], numbers: xr.Dataset) -> None:
    """Draw thin lines for seeds, a thick line for the mean, and its 95 % t interval.

    The array has dims (condition, seed, step). The interval is a band; with more than `BANDS` conditions it
    is a bar to the right of the last step. A single step is drawn with dots and bars.
    """
    all_conditions = [str(m) for m in numbers["condition"].values]
    span = np.ptp(array["step"].values) or 1
    for place, condition in enumerate(conditions, start=1):
        tint = color(condition, all_conditions)
        runs = of_condition(array, condition).dropna("step", how="all").dropna("seed", how="all")
        for seed in runs["seed"].values:
            run = runs.sel(seed=seed).dropna("step")
            ax.plot(run["step"], run, color=tint, linewidth=0.5, alpha=0.45, **_dot(run, 1.5))
        # The mean covers only steps that every seed reached, since it would jump where a run ends.
        shared = runs.dropna("step", how="any")
        over = mean_interval(shared)
        ax.plot(shared["step"], over.mean, color=tint, **_dot(shared, 3.5))
        if shared.sizes["seed"] < 2 or not shared.sizes["step"]:
            continue
        if len(conditions) <= BANDS and shared.sizes["step"] > 1:
            ax.fill_between(shared["step"], over.low, over.high, color=tint, alpha=0.13, linewidth=0)
        else:
            at = shared["step"].values[-1] + 0.022 * span * place * (len(conditions) > BANDS)
            ax.plot([at, at], [over.low[-1], over.high[-1]], color=tint, linewidth=1.2, solid_capstyle="butt")
    if array.sizes["step"] == 1:
        ax.set_xticks(array["step"].values)  # no fractions of a step


def _dot(line: xr.DataArray, size: float) -> dict[str, Any]:
    """Return the marker settings for a line with a single point."""
    return {"marker": "o", "markersize": size} if line.sizes["step"] == 1 else {}


def null_band(ax: Axes, numbers: xr.Dataset, name: str, condition: str, **at: str) -> bool:
    """Draw the central 95 % of a null, averaged over a condition's seeds; return whether the null exists."""
    if f"{name}_low" not in numbers or condition not in numbers["condition"]:
        return False
    low, high = (
        of_condition(numbers[f"{name}_{end}"].sel(at), condition).mean("seed").dropna("step")
        for end in ("low", "high")
    )
    if not low.size:
        return False
    if low.size > FEW:
        ax.fill_between(low["step"], low, high, color=NULL, alpha=0.35, linewidth=0)
    else:  # the null is known at these steps only, not between them
        ax.vlines(low["step"], low, high, color=NULL, alpha=0.35, linewidth=8)
    return True


def note(ax: Axes, text: str) -> None:
    """Write the reason into an empty panel."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#777777", fontsize=6.5)


def finish(
    canvas: Canvas,
    numbers: xr.Dataset,
    conditions: list[str],
    print_: str,
    *,
    null: str = "",
    columns: int = 6,
) -> None:
    """Add the legend above the panels and the small print below them.

    The small print ends with the runs that are left out, wholly or in part.
    """
    all_conditions = [str(m) for m in numbers["condition"].values]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=color(m, all_conditions), label=label(m)) for m in conditions
    ]
    if null:
        handles.append(Patch(facecolor=NULL, alpha=0.35, label=null))
    if len(conditions) > BANDS:
        print_ += " The bars to the right of the last step are the intervals at that step."
    if gone := numbers.attrs["runs_left_out"]:
        print_ += f" Left out, wholly or in part: {', '.join(gone)}."
    width = int(canvas.get_figwidth() * 22)
    canvas.supxlabel(textwrap.fill(print_, width), fontsize=6, color="#555555", x=0.01, ha="left")
    if len(handles) > 1:
        canvas.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))
