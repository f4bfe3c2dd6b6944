"""Draw one measure into a panel, over depth or over training, with its null, its bound and its sentences."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.layers import caption_layer, chosen_layers
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.near_names import near
from fadiag.figures.base.panel import Panel
from fadiag.figures.base.record import is_silent
from fadiag.figures.strokes.bounds import bounds, value_axis
from fadiag.figures.strokes.depth import null_over_layers, over_layers
from fadiag.figures.strokes.steps import curves, null_over_steps
from fadiag.figures.words.nulls import beyond_null
from fadiag.figures.words.sentences import finding
from fadiag.results.null_values import AT_CEILING
from fadiag.results.run_labels import entries_of
from fadiag.store.tools.printable import printable

__all__ = ["between", "plot_by_depth", "plot_over_training", "without_null"]


def plot_by_depth(
    panel: Panel,
    measure: Measure,
    *,
    layers: str | Sequence[str] | None,
    step: int | None,
    null: str | None,
    compared: bool = True,
) -> None:
    """Draw a measure over the layers at one step; `compared`: whether the caption names differences."""
    if step is not None and np.ndim(step):
        raise InputError(f"step={step!r} is not one step; per_step(..., steps=...) draws several")
    panel.record.what = f"{_capital(measure.words)}, by layer"
    values = panel.values(measure)
    values = values.sel(layer=chosen_layers([str(v) for v in values["layer"].values], layers))
    ends = _null(panel, measure, null, values)
    at_end = panel.at(values, step)
    if not bool(np.isfinite(at_end).any()):
        raise MissingSignalError(f"the {measure.words} has no value at one step that all conditions share")
    if ends:
        low, high = (panel.at(each, step).reindex_like(at_end) for each in ends)
        null_over_layers(panel, low, high, _words(measure, null), at_end)
    over_layers(panel, at_end, measure, int(at_end["step"]))
    value_axis(panel, measure, at_end)
    bounds(panel, measure, at_end)
    layer = caption_layer(panel.results, [str(v) for v in values["layer"].values])
    here = at_end.sel(layer=layer)
    _say(panel, measure, values, here, layer=layer, ends=ends, null=null, compared=compared)


def plot_over_training(
    panel: Panel,
    measure: Measure,
    *,
    layer: str | None,
    steps: tuple[int, int] | None,
    null: str | None,
    compared: bool = True,
) -> None:
    """Draw a measure of one layer, or of the whole network, over training."""
    if layer is not None and not isinstance(layer, str):
        raise InputError(f"layer={layer!r} is not one layer; per_layer(..., layers=...) draws several")
    panel.record.what = f"{_capital(measure.words)}, over training"
    values = panel.values(measure)
    if steps is not None:
        values = between(values, steps)
    if "layer" in values.dims:
        held = [str(v) for v in values["layer"].values]
        layer = chosen_layers(held, layer or caption_layer(panel.results, held))[0]
        panel.record.place = printable(layer)
    ends = _null(panel, measure, null, values)
    here = values.sel(layer=layer) if "layer" in values.dims else values
    if not bool(np.isfinite(here.sel({"condition": panel.arms.names})).any()):
        where = f" at {layer}" if layer else ""
        raise MissingSignalError(f"no run has a value of the {measure.words}{where}")
    if ends:
        low, high = (each.sel(layer=layer) if "layer" in each.dims else each for each in ends)
        null_over_steps(panel, low, high, _words(measure, null), layer or "")
    curves(panel, here, measure, layer or "")
    value_axis(panel, measure, here)
    bounds(panel, measure, here)
    at_end = panel.at(here, None)
    _say(panel, measure, values, at_end, layer=layer or "", ends=ends, null=null, compared=compared)


def between(values: xr.DataArray, steps: tuple[int, int]) -> xr.DataArray:
    """Return the values from a first to a last step; raise InputError if there are none."""
    if len(steps) != 2:
        raise InputError(f"steps is {steps!r}; give the first and the last step")
    first, last = steps
    found = values.sel(step=(values["step"] >= first) & (values["step"] <= last))
    found = found.assign_attrs({**values.attrs, "chosen_step": last})
    if not found.sizes["step"]:
        known = values["step"].values
        raise InputError(
            f"no step from {first} to {last} was recorded; the records go from {known[0]} to {known[-1]}"
        )
    return found


def _words(measure: Measure, null: str | None) -> str:
    return f"{measure.nulls[null or '']}, central 95 %"


def _null(
    panel: Panel, measure: Measure, null: str | None, values: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Return the low and high ends of a null; None if there is none, which the small print says."""
    if null is None:
        return None
    if null not in measure.nulls:
        raise InputError(
            f"{measure.name} has no null {null!r}{near(null, measure.nulls)}; null=None draws none"
        )
    # The smallest cosine is the largest angle.
    names = ("high", "low") if measure.degrees else ("low", "high")
    stem = measure.null(null)
    found = [panel.companion(f"{stem}_{end}", values, degrees=measure.degrees) for end in names]
    low, high = (None if each is None else each.reindex_like(values) for each in found)
    if low is None or high is None:
        panel.record.note(f"{_capital(measure.words)}: {without_null(measure, null)}")
        return None
    return low, high


def without_null(measure: Measure, null: str) -> str:
    """Return that a null is missing, and what records it."""
    text = f"no {measure.nulls[null]} was recorded, so the level of chance is unknown"
    if null == "gate" and measure.name.startswith("error_"):  # no other signal has one
        return f"{text}; record it with Probe(..., gate_draws=20)."
    if null == "redrawn":
        return f"{text}; record it with Probe(..., redraws=99)."
    return f"{text}."


def _say(
    panel: Panel,
    measure: Measure,
    values: xr.DataArray,
    at_end: xr.DataArray,
    *,
    layer: str,
    ends: tuple[xr.DataArray, xr.DataArray] | None,
    null: str | None,
    compared: bool,
) -> None:
    """Add the findings to the caption: of every drawn condition at one layer, against baseline and null."""
    if is_silent():
        return
    unit = measure.difference_unit if compared and panel.arms.baseline else measure.unit
    baseline = panel.arms.baseline if compared else ""
    declared = measure.name in entries_of(panel.results, "primary_metric")
    panel.record.say(
        finding(
            at_end,
            panel.arms.names,
            baseline,
            layer=printable(layer),
            unit=unit,
            lost=panel.lost,
            declared=declared,
        )
        + _ceiling(panel, measure, values, at_end, layer)
    )
    if ends and layer:
        panel.record.say(beyond_null(values, *ends, measure.nulls[null or ""], panel.arms.names, layer=layer))


def _ceiling(panel: Panel, measure: Measure, values: xr.DataArray, at_end: xr.DataArray, layer: str) -> str:
    """Return in words how many final values of a rank are at its ceiling; "" if none is."""
    marks = panel.companion(f"{measure.name}_{AT_CEILING}", values)
    if marks is None or int(at_end["step"]) < 0 or int(at_end["step"]) not in marks["step"].values:
        return ""
    here = marks.sel(layer=layer, step=int(at_end["step"]))
    reached = {name: int(here.sel({"condition": name}).sum()) for name in panel.arms.names}
    words = [f"{count} of {arm.label}" for arm in panel.drawn if (count := reached.get(arm.condition, 0))]
    return f"; at its ceiling, within 1 % of min(N, n): runs {', '.join(words)}" if words else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
