"""Draw paired differences to the baseline over the layers of a network."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from fadiag.errors import MissingSignalError
from fadiag.figures.base.layers import caption_layer, chosen_layers
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel
from fadiag.figures.look.text import shortened, shown
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.depth import over_layers
from fadiag.figures.words.sentences import finding, not_compared
from fadiag.results.by_condition import of_condition
from fadiag.store.tools.printable import printable

__all__ = ["differences", "plot_gap", "require_baseline"]


def require_baseline(panel: Panel) -> str:
    """Return the baseline of a panel.

    Raises
    ------
    MissingSignalError
        There is none. The panel then shows the reason.
    """
    if not panel.arms.baseline:
        raise MissingSignalError(f"there is no baseline: {panel.arms.why_no_baseline}")
    return panel.arms.baseline


def differences(at_end: xr.DataArray, baseline: str) -> xr.DataArray:
    """Return final values minus those of the baseline's run of the same seed, with the attributes kept.

    There is no difference of values that are not compared.

    Raises
    ------
    MissingSignalError
        Nothing is compared. The panel then shows the reason.
    """
    others = [str(name) for name in at_end["condition"].values if name != baseline]
    apart = {name: why for name in others if (why := not_compared(at_end, (name, baseline)))}
    if apart and len(apart) == len(others):
        raise MissingSignalError(
            "; ".join(f"{label(n)} and {label(baseline)} {why}" for n, why in apart.items())
        )
    found = at_end - of_condition(at_end, baseline)
    return found.where(~found["condition"].isin(list(apart))).assign_attrs(at_end.attrs)


def plot_gap(panel: Panel, measure: Measure, *, layers: str | Sequence[str] | None, step: int | None) -> None:
    """Draw condition − baseline over the layers at one step."""
    panel.record.what = (
        f"{measure.words[:1].upper()}{measure.words[1:]}, paired difference to the baseline, by layer"
    )
    values = panel.values(measure)
    baseline = require_baseline(panel)
    values = values.sel(layer=chosen_layers([str(v) for v in values["layer"].values], layers))
    at_end = panel.at(values, step)
    gap = differences(at_end, baseline)
    panel.arms = replace(panel.arms, drawn=tuple(a for a in panel.drawn if a.condition != baseline))
    if not any(panel.has(gap, arm.condition) for arm in panel.drawn):
        raise MissingSignalError(
            f"no seed has the {measure.words} for both {label(baseline)} and another condition"
        )
    panel.record.note("Differences are between runs of the same seed.")
    panel.ax.axhline(0, color="#555555", linewidth=0.6, zorder=0.5)
    over_layers(
        panel, gap, replace(measure, floor=-np.inf, roof=np.inf), int(at_end["step"]), kind="difference"
    )
    panel.ax.set_ylabel(shown(f"{measure.axis}:\ndifference to {shortened(label(baseline), 28)}"))
    layer = caption_layer(panel.results, [str(v) for v in values["layer"].values])
    panel.record.say(
        finding(
            at_end.sel(layer=layer),
            panel.arms.names,
            baseline,
            layer=printable(layer),
            unit=measure.difference_unit,
            lost=panel.lost,
        )
    )
