"""Draw a variable over training, with every seed, the mean, its interval and the null."""

from typing import Any

import numpy as np
import xarray as xr

from fadiag.figures.base.measure import Measure, interval_within
from fadiag.figures.base.panel import Panel
from fadiag.figures.strokes.marks import (
    BANDS,
    dots,
    explain,
    explain_null,
    keep_means,
    keep_seeds,
    line,
    null_bar,
    thinned,
)
from fadiag.results.by_condition import of_condition

__all__ = ["curves", "is_logarithmic", "null_over_steps"]

Steps = np.ndarray[Any, Any]

#: An axis is logarithmic if there are so many gaps, and the largest is so many times the median.
_FEWEST, _UNEVEN = 5, 5


def curves(panel: Panel, values: xr.DataArray, measure: Measure, layer: str = "") -> None:
    """Draw thin lines through the records of seeds, a thick line through their mean, and the interval.

    `values` have dims (condition, seed, step). The interval is a band. With more than `BANDS` conditions, or
    at a single step, it is a bar.
    """
    ax, drawn = panel.ax, [arm for arm in panel.drawn if panel.has(values, arm.condition)]
    steps = values["step"].values
    for place, arm in enumerate(drawn, start=1):
        runs = of_condition(values, arm.condition).dropna("step", how="all").dropna("seed", how="all")
        explain(panel, arm)
        for seed in runs["seed"].values if runs.sizes["seed"] > 1 else ():
            run = runs.sel(seed=seed).dropna("step")
            panel.add(ax.plot(run["step"], run, **dots(arm), markevery=thinned(run.size))[0])
        # The mean covers only steps that every seed reached, since it would jump where a run ends.
        shared = runs.dropna("step", how="any")
        over = interval_within(shared, measure)
        (mean,) = ax.plot(shared["step"], over.mean, **line(arm), markevery=thinned(shared.sizes["step"]))
        panel.add(mean)
        at = {"condition": arm.condition, "layer": layer}
        keep_means(panel, over, shared, measure, **at)
        keep_seeds(panel, runs, measure, **at)
        if shared.sizes["seed"] < 2 or not shared.sizes["step"]:
            continue
        if len(drawn) <= BANDS and shared.sizes["step"] > 1:
            ax.fill_between(
                shared["step"], over.low, over.high, color=arm.look.color, alpha=0.15, linewidth=0
            )
        else:
            x = _right_of(shared["step"].values[-1], steps, place if len(drawn) > BANDS else 0)
            ax.plot([x, x], [over.low[-1], over.high[-1]], color=arm.look.color, solid_capstyle="butt")
            if len(drawn) > BANDS:
                panel.record.note("The bars to the right of the last step are the intervals at that step.")
    if values.sizes["step"] == 1:
        ax.set_xticks(values["step"].values)  # no fractions of a step
        ax.set_xlim(values["step"].values[0] - 0.4, values["step"].values[0] + 0.4)
    elif is_logarithmic(steps):
        ax.set_xscale("symlog", linthresh=_least(steps))
    ax.set_xlabel("training step")


def is_logarithmic(steps: Steps) -> bool:
    """Return whether records are spaced as by a schedule per decade, so a linear axis would crowd them.

    >>> is_logarithmic(np.array([0, 1, 3, 10, 30, 100, 300])), is_logarithmic(np.arange(0, 700, 100))
    (True, False)
    """
    gaps = np.diff(steps)
    return bool(len(gaps) >= _FEWEST and gaps.max() > _UNEVEN * np.median(gaps))


def _least(steps: Steps) -> float:
    return float(steps[steps > 0].min())


def _right_of(step: float, steps: Steps, place: float) -> float:
    """Return where a bar has its place to the right of a step; the first place is nearest."""
    if is_logarithmic(steps):
        if step < _least(steps):  # the axis is linear there
            return float(step + 0.1 * place * _least(steps))
        return float(step * (steps[-1] / _least(steps)) ** (0.022 * place))
    return float(step + 0.022 * place * (float(np.ptp(steps)) or 1.0))


def null_over_steps(panel: Panel, low: xr.DataArray, high: xr.DataArray, words: str, layer: str) -> None:
    """Draw the central 95 % of the null of every drawn condition: a band, or bars where it has few steps.

    The ends are averaged over seeds. With more than `BANDS` conditions, only the last step's null is drawn,
    around the interval.
    """
    held = [arm for arm in panel.drawn if panel.has(low, arm.condition) and panel.has(high, arm.condition)]
    if not held:
        return
    for place, arm in enumerate(held, start=1):
        ends = [of_condition(each, arm.condition).mean("seed").dropna("step") for each in (low, high)]
        below, above = xr.align(*ends, join="inner")
        if not below.size:
            continue
        x, color, all_steps = below["step"].values, arm.look.color, low["step"].values
        if len(held) > BANDS:
            below, above = below[-1:], above[-1:]
            _bars(panel, below, above, color, all_steps, place=place)
        elif below.size > 2:
            panel.ax.fill_between(x, below, above, **null_bar(color))
        else:  # the null is known at these steps only, not between them
            _bars(panel, below, above, color, all_steps)
        rows = [
            {"kind": "null", "variable": words, "condition": arm.condition, "layer": layer, "step": int(s)}
            | {"interval": "central 95 %"}
            | {"low": float(b), "high": float(a)}
            for s, b, a in zip(below["step"].values, below.values, above.values, strict=True)
        ]
        panel.record.rows.extend(rows)
    explain_null(panel, words)


def _bars(
    panel: Panel, low: xr.DataArray, high: xr.DataArray, color: str, steps: Steps, *, place: int = 0
) -> None:
    """Draw a hatched bar at the steps of a null, or at a place to the right of each."""
    for step, below, above in zip(low["step"].values, low.values, high.values, strict=True):
        sides = [_right_of(step, steps, place + side) for side in (-0.35, 0.35)]
        panel.ax.fill_between(sides, below, above, **null_bar(color))
