"""Draw the singular values of a signal, or how much energy the leading ones hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fadiag.errors import MissingSignalError
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import caption_layer, chosen_layers
from fadiag.figures.base.measure import Measure, exact_twin, interval_within
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.strokes.bounds import bound_line, classes_less_one
from fadiag.figures.strokes.marks import BANDS, dots, explain, keep_means, keep_seeds, line, thinned
from fadiag.figures.words.sentences import each, when
from fadiag.figures.words.shared import placed
from fadiag.results.by_condition import of_condition
from fadiag.results.variables import SPECTRUM_STEP
from fadiag.store.tools.printable import printable

__all__ = ["spectrum"]

#: Smaller singular values, as a share of the largest, are rounding of float32 signals.
_ROUNDING = 1e-6
#: The share of the energy in the caption.
_SHARE = 0.9
#: (cumulative, normalized) -> the words along the axis.
_AXES = {
    (False, False): "singular value",
    (False, True): "singular value\n(share of the largest)",
    (True, False): "cumulative energy",
    (True, True): "share of the energy,\ncumulative",
}


@figure_function
def spectrum(
    results: xr.DataTree,
    *,
    signal: str = "error",
    centered: bool = False,
    layer: str | None = None,
    step: int | None = None,
    cumulative: bool = False,
    normalized: bool = True,
    conditions: str | Sequence[str] | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the singular values of a signal at one layer and step, for every condition.

    Results hold them after ``analyze(spectra=...)``. A thick line is the mean over seeds, a thin line a seed.

    Parameters
    ----------
    results, conditions, stream, ax, legend
        As in `rank_by_depth`.
    signal : str
        A signal whose spectrum was kept.
    centered : bool
        Whether to draw the spectrum of the rows less their mean.
    layer : str, optional
        The layer; by default the one that the study declared, else the one below the output.
    step : int, optional
        The step; by default the last kept one that all drawn conditions have.
    cumulative : bool
        Whether to draw sum_{j <= i} s_j² instead of s_i.
    normalized : bool
        Whether to divide by the largest singular value, or with `cumulative` by the sum of all s².

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, condition, layer, step or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = spectrum(xr.DataTree(), ax=Figure().add_subplot())
    >>> "analyze(spectra='error')" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    measure = _measure(signal, results, centered=centered, cumulative=cumulative, normalized=normalized)
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        _plot(here, measure, signal, layer, step, cumulative=cumulative, normalized=normalized)
    return here.ax


def _measure(
    signal: str, results: xr.DataTree, *, centered: bool, cumulative: bool, normalized: bool
) -> Measure:
    form = "centered" if centered else "raw"
    name, of = f"{signal}_spectrum_{form}", f"of the {signal.replace('_', ' ')}, {form}"
    twin = exact_twin(signal, name, results)
    return Measure(
        name,
        f"energy in the leading directions {of}" if cumulative else f"singular values {of}",
        _AXES[cumulative, normalized],
        floor=0,
        roof=1 if normalized else np.inf,
        log=not cumulative,
        twin=f"{twin}_spectrum_{form}" if twin else "",
    )


def _plot(
    here: Panel,
    measure: Measure,
    signal: str,
    layer: str | None,
    step: int | None,
    *,
    cumulative: bool,
    normalized: bool,
) -> None:
    here.record.what = measure.words[:1].upper() + measure.words[1:]
    try:
        kept = here.values(measure)
    except MissingSignalError:
        raise MissingSignalError(
            f"the results hold no {measure.name}; keep it with analyze(spectra={signal!r})"
        ) from None
    values = kept.rename({SPECTRUM_STEP: "step"})
    held = [str(v) for v in values["layer"].values]
    layer = chosen_layers(held, layer or caption_layer(here.results, held))[0]
    here.record.place = printable(layer)
    at_end = here.at(values.sel(layer=layer), step).dropna("singular_value", how="all")
    if not at_end.size:
        raise MissingSignalError(
            f"no run has a {measure.words} at {layer}, at a step that all conditions share"
        )
    _lines(here, measure, _scaled(at_end, cumulative=cumulative, normalized=normalized), layer)
    here.ax.set(xlabel="index of the singular value", ylabel=measure.axis)
    here.ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    if measure.log:
        here.ax.set_yscale("log")
        largest = float(at_end.max()) if not normalized else 1.0
        smallest = float(at_end.where(at_end > 0).min()) / (float(at_end.max()) if normalized else 1.0)
        if smallest < _ROUNDING * largest:
            here.record.note("The axis ends where a float32 signal has only rounding.")
        here.ax.set_ylim(max(smallest, _ROUNDING * largest) / 1.5, 1.5 * largest)
    _bound(here, at_end.sizes["singular_value"])
    _say(here, at_end, layer)


def _scaled(at_end: xr.DataArray, *, cumulative: bool, normalized: bool) -> xr.DataArray:
    """Return what is drawn of the singular values, with their attributes."""
    known = at_end.notnull()
    drawn = (at_end**2).cumsum("singular_value").where(known) if cumulative else at_end
    whole = drawn.max("singular_value")
    found = drawn / whole.where(whole > 0) if normalized else drawn
    return found.assign_attrs(at_end.attrs)


def _lines(here: Panel, measure: Measure, drawn: xr.DataArray, layer: str) -> None:
    at: dict[str, Any] = {"layer": layer, "step": int(drawn["step"])}
    shown = [arm for arm in here.drawn if here.has(drawn, arm.condition)]
    for arm in shown:
        runs = (
            of_condition(drawn, arm.condition).dropna("singular_value", how="all").dropna("seed", how="all")
        )
        x = runs["singular_value"].values
        explain(here, arm)
        for seed in runs["seed"].values if runs.sizes["seed"] > 1 else ():
            settings = {**dots(arm), "marker": "none"}
            here.add(here.ax.plot(x, runs.sel(seed=seed), **settings)[0])
        over = interval_within(runs, measure)
        here.add(here.ax.plot(x, over.mean, **line(arm), markevery=thinned(x.size))[0])
        if runs.sizes["seed"] > 1 and len(shown) <= BANDS:
            here.ax.fill_between(x, over.low, over.high, color=arm.look.color, alpha=0.15, linewidth=0)
        keep_means(here, over, runs, measure, condition=arm.condition, **at)
        keep_seeds(here, runs, measure, condition=arm.condition, **at)
    if len(shown) > BANDS:
        here.record.note("The intervals are in the table of numbers, not in the drawing.")


def _bound(here: Panel, longest: int) -> None:
    """Mark classes − 1, the largest rank of the credit, if the results hold it and the axis reaches it."""
    bound = classes_less_one(here.results)
    if not bound <= longest:
        return
    words = f"classes − 1 = {bound:g}"
    here.ax.axvline(bound, **bound_line(words))
    here.record.entries.setdefault(words, Line2D([], [], **bound_line(words)))
    here.record.rows.append({"kind": "bound", "variable": "classes − 1", "x": bound, "value": bound})
    here.record.note(f"{words} bounds the credit's rank; gates and norms lift the error's beyond.")


def _say(here: Panel, at_end: xr.DataArray, layer: str) -> None:
    """Say how many directions hold most of the energy, and how much the first classes − 1 hold."""
    energy = (at_end**2).cumsum("singular_value").where(at_end.notnull())
    total = energy.max("singular_value")
    share = energy / total.where(total > 0)
    count = ((share < _SHARE - 1e-12).sum("singular_value") + 1).where(total > 0).assign_attrs(at_end.attrs)
    many = each(count, here.arms.names)
    place = placed(printable(layer), when(at_end))
    here.record.say(f"{place}mean number of directions that hold {100 * _SHARE:g} % of the energy: {many}")
    bound = classes_less_one(here.results)
    if bound in share["singular_value"].values:
        leading = share.sel(singular_value=bound).assign_attrs(at_end.attrs)
        held = each(leading, here.arms.names)
        here.record.say(f"Share of the energy in the leading classes − 1 = {bound:g} directions: {held}")
