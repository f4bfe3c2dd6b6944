"""Strokes that several figures share: seeds with their mean, null bands, the legend, the small print."""

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

#: Bands of more conditions than this would hide each other.
BANDS = 3
#: The null of so few steps is a bar at each.
FEW = 2


def conditions_in(array: xr.DataArray, wanted: tuple[str, ...] = ()) -> list[str]:
    """Return the conditions that have a value, in their order; only the wanted ones, where any is there."""
    held = [str(m) for m in array["condition"].values if np.isfinite(of_condition(array, m)).any()]
    return [m for m in wanted if m in held] or held


def without_bp(conditions: list[str]) -> list[str]:
    """Leave BP out of a comparison with the true error, where its line stands at 1; unless it is alone."""
    return [m for m in conditions if m != "bp"] or conditions


def first_with_values(numbers: xr.Dataset, names: Iterable[str]) -> str:
    """Return the first variable that has a value; the first of all where none has."""
    names = list(names)
    return next((name for name in names if np.isfinite(numbers[name]).any()), names[0])


def curves(ax: Axes, array: xr.DataArray, conditions: list[str], numbers: xr.Dataset) -> None:
    """Draw every seed thin, the mean thick and its 95 % t interval, of (condition, seed, step).

    The interval is a band; of more than `BANDS` conditions it is a bar beside the last step. One step has
    dots for lines and bars for bands.
    """
    all_conditions = [str(m) for m in numbers["condition"].values]
    span = np.ptp(array["step"].values) or 1
    for place, condition in enumerate(conditions, start=1):
        tint = color(condition, all_conditions)
        runs = of_condition(array, condition).dropna("step", how="all").dropna("seed", how="all")
        for seed in runs["seed"].values:
            run = runs.sel(seed=seed).dropna("step")
            ax.plot(run["step"], run, color=tint, linewidth=0.5, alpha=0.45, **_dot(run, 1.5))
        # Steps that not every seed reached have a mean over fewer runs: it would jump there for no reason.
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
        ax.set_xticks(array["step"].values)  # no fractions of it


def _dot(line: xr.DataArray, size: float) -> dict[str, Any]:
    """Return the mark of what has no second point to draw a line to."""
    return {"marker": "o", "markersize": size} if line.sizes["step"] == 1 else {}


def null_band(ax: Axes, numbers: xr.Dataset, name: str, condition: str, **at: str) -> bool:
    """Draw the null's central 95 %, its ends averaged over a condition's seeds; return whether it exists."""
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
    else:  # drawn at the ends of the run only: nothing is known of what lies between
        ax.vlines(low["step"], low, high, color=NULL, alpha=0.35, linewidth=8)
    return True


def note(ax: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
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
    """Add the legend above and the small print below; both outside the panels, so that nothing is covered.

    The small print ends with the runs that are left out, in whole or in part.
    """
    all_conditions = [str(m) for m in numbers["condition"].values]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=color(m, all_conditions), label=label(m)) for m in conditions
    ]
    if null:
        handles.append(Patch(facecolor=NULL, alpha=0.35, label=null))
    if len(conditions) > BANDS:
        print_ += " The bars beside the last step are the intervals there."
    if gone := numbers.attrs["runs_left_out"]:
        print_ += f" In whole or in part left out: {', '.join(gone)}."
    width = int(canvas.get_figwidth() * 22)
    canvas.supxlabel(textwrap.fill(print_, width), fontsize=6, color="#555555", x=0.01, ha="left")
    if len(handles) > 1:
        canvas.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)))
