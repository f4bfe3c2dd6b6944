"""Draw a figure function once for each layer, step or condition, side by side on one scale."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.figures.base.axes import axes_size, is_blank
from fadiag.figures.base.furnish import furnish
from fadiag.figures.base.layers import chosen_layers, layers_of, layers_with, primary_layer, steps_of
from fadiag.figures.base.record import records_of, silent
from fadiag.figures.look.canvas import canvas_width
from fadiag.figures.look.style import styled
from fadiag.figures.look.text import put_fonts, shortened, shown, wrapped
from fadiag.figures.look.theme import current_theme, label
from fadiag.results.io import require_results
from fadiag.results.roles import roles
from fadiag.store.tools.printable import printable

__all__ = ["per_condition", "per_layer", "per_step"]

#: With more panels than this a page is not readable.
_LAYERS, _CONDITIONS, _STEPS = 8, 9, 4
_COLUMNS = 4
#: The longest name above a panel.
_LETTERS = 32
#: The height of a panel as a share of its width, and the lines of type above and below it.
_ASPECT, _LINES = 0.5, 7


def per_layer(
    draw: Callable[..., Axes],
    results: xr.DataTree,
    *,
    layers: str | Sequence[str] | None = None,
    having: str | None = None,
    caption_layer: str | None = None,
    figure: Figure | SubFigure | None = None,
    **options: Any,
) -> Figure | SubFigure:
    """Draw a function such as `rank_over_training` for several layers, with shared axes.

    Parameters
    ----------
    draw : callable
        A figure function with the arguments ``layer``, ``ax`` and ``legend``.
    results : DataTree
        Results of `fadiag.analyze`.
    layers : str or sequence of str, optional
        The layers; by default all of them, or eight that span the depth.
    having : str, optional
        A variable; layers without a value of it are not among the default ones.
    caption_layer : str, optional
        The layer that the caption speaks of; by default the primary one.
    figure : Figure or SubFigure, optional
        Where to draw; by default a new figure of the style's text width.
    **options
        Other arguments of `draw`.

    Returns
    -------
    Figure or SubFigure
        With one Axes for each layer.

    Raises
    ------
    InputError
        There is no such layer, or `draw` refuses an argument.

    Examples
    --------
    >>> from fadiag.figures import rank_over_training
    >>> len(per_layer(rank_over_training, xr.DataTree(), figure=Figure()).axes)
    1
    """
    require_results(results)
    held = layers_of(results)
    if having is not None:
        some = layers_with(results, having)
        held = [layer for layer in held if layer in some] or held
    spoken = caption_layer or primary_layer(results)
    if held and spoken not in held:
        spoken = held[-1]
    drawn = chosen_layers(held, layers) if layers is not None else _spanning(held, spoken)
    few = layers is None and len(drawn) < len(held)
    note = f"{len(drawn)} of {len(held)} layers are drawn." if few else ""
    titles = [printable(layer) for layer in drawn]
    quiet = [layer != spoken and len(drawn) > 1 for layer in drawn]
    return _panels(draw, results, _Each("layer", drawn, titles, note, quiet), figure, options)


def per_step(
    draw: Callable[..., Axes],
    results: xr.DataTree,
    *,
    steps: Sequence[int] | None = None,
    figure: Figure | SubFigure | None = None,
    **options: Any,
) -> Figure | SubFigure:
    """Draw a function such as `rank_by_depth` at several steps of training, with shared axes.

    Parameters
    ----------
    draw : callable
        A figure function with the arguments ``step``, ``ax`` and ``legend``.
    results, figure, **options
        As in `per_layer`.
    steps : sequence of int, optional
        The steps; by default four recorded ones, from the first to the last.

    Returns
    -------
    Figure or SubFigure
        With one Axes for each step.

    Raises
    ------
    InputError
        Nothing was recorded at a step, no step is given, or `draw` refuses an argument.

    Examples
    --------
    >>> from fadiag.figures import rank_by_depth
    >>> len(per_step(rank_by_depth, xr.DataTree(), figure=Figure()).axes)
    1
    """
    require_results(results)
    if steps is not None and not len(steps):
        raise InputError("steps is empty; name at least one, or leave it out")
    held = steps_of(results, options.get("stream"))
    places = np.linspace(0, len(held) - 1, min(_STEPS, len(held))).round().astype(int)
    drawn = [held[i] for i in places] if steps is None else [int(step) for step in steps]
    each = _Each("step", drawn, [f"step {step}" for step in drawn])
    return _panels(draw, results, each, figure, options)


def per_condition(
    draw: Callable[..., Axes],
    results: xr.DataTree,
    *,
    conditions: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
    **options: Any,
) -> Figure | SubFigure:
    """Draw a function such as `layer_step_heatmap` for several conditions, on one scale.

    Parameters
    ----------
    draw : callable
        A figure function with the arguments ``condition`` or ``conditions``, ``ax`` and ``legend``.
    results, figure, **options
        As in `per_layer`.
    conditions : sequence of str, optional
        The conditions; by default all of them, or the first nine.

    Returns
    -------
    Figure or SubFigure
        With one Axes for each condition.

    Raises
    ------
    InputError
        There is no such condition, none is given, or `draw` refuses an argument.

    Examples
    --------
    >>> from fadiag.figures import layer_step_heatmap
    >>> len(per_condition(layer_step_heatmap, xr.DataTree(), figure=Figure()).axes)
    1
    """
    require_results(results)
    if conditions is not None and not conditions:
        raise InputError("conditions is empty; name at least one, or leave it out for all")
    known = current_theme().ordered(roles(results).conditions)
    drawn = [conditions] if isinstance(conditions, str) else list(conditions or known[:_CONDITIONS])
    argument = "condition" if "condition" in inspect.signature(draw).parameters else "conditions"
    some = conditions is None and len(drawn) < len(known)
    note = f"{len(drawn)} of {len(known)} conditions are drawn." if some else ""
    titles = [label(name) for name in drawn]
    return _panels(draw, results, _Each(argument, drawn, titles, note, columns=3), figure, options)


@dataclass(frozen=True)
class _Each:
    """What the panels differ in: an argument, its values, the titles, and whose findings are left out."""

    argument: str
    values: Sequence[Any]
    titles: Sequence[str]
    note: str = ""
    quiet: Sequence[bool] = ()
    columns: int = _COLUMNS


def _panels(
    draw: Callable[..., Axes],
    results: xr.DataTree,
    each: _Each,
    figure: Figure | SubFigure | None,
    options: dict[str, Any],
) -> Figure | SubFigure:
    count = max(1, len(each.values))
    columns = min(each.columns, count) if count != each.columns + 1 else each.columns - 1
    rows = -(-count // columns)
    with styled():
        given = figure is not None
        if figure is None:
            import matplotlib.pyplot as plt

            width = canvas_width(panels=True)
            high = rows * (_ASPECT * width / columns + _LINES * mpl.rcParams["font.size"] / 72)
            figure = plt.figure(figsize=(width, high), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[count:]:
            ax.set_visible(False)
        for place, ax in enumerate(grid.flat[:count]):
            value = each.values[place] if each.values else None
            with silent(bool(each.quiet) and each.quiet[place]):
                draw(results, **{each.argument: value}, ax=ax, legend=False, **options)
            _entitle(ax, each.titles[place] if each.titles else "")
            for record in records_of([ax]) if each.note else ():
                record.note(each.note)
        _share(grid)
        _outer(grid)
        furnish(figure, own=not given)
    return figure


def _entitle(ax: Axes, title: str) -> None:
    size = mpl.rcParams["font.size"]
    ax.set_title(shown(wrapped(shortened(title, _LETTERS), axes_size(ax)[0], size)))
    put_fonts([ax.title])


def _share(grid: NDArray[Any]) -> None:
    """Give drawings one scale; images have the same colors, and rows and columns of their own."""
    drawn = [ax for ax in grid.flat if ax.get_visible() and not is_blank(ax)]
    if any(ax.images for ax in drawn):
        return
    for which in "xy":
        ends = np.array([getattr(ax, f"get_{which}lim")() for ax in drawn]).reshape(-1, 2)
        for ax in drawn:
            falls = ax.yaxis_inverted() and which == "y"
            low, high = float(ends.min()), float(ends.max())
            getattr(ax, f"set_{which}lim")(*((high, low) if falls else (low, high)))


def _outer(grid: NDArray[Any]) -> None:
    """Name the axes at the left and at the bottom only; a blank panel leaves it to the next one."""
    alike = not any(ax.images for ax in grid.flat)
    for row in grid:
        drawn = [ax for ax in row if ax.get_visible() and not is_blank(ax)]
        for ax in drawn[1:]:
            ax.set_ylabel("")
            if alike:
                ax.tick_params(labelleft=False)
    for column in grid.T:
        drawn = [ax for ax in column if ax.get_visible()]
        for ax in drawn[:-1]:
            ax.set_xlabel("")
            if alike and not is_blank(drawn[-1]):
                ax.tick_params(labelbottom=False)


def _spanning(held: Sequence[str], spoken: str) -> list[str]:
    """Return all layers, or `_LAYERS` that span the depth and include the one of the caption."""
    if len(held) <= _LAYERS:
        return list(held)
    places = np.linspace(0, len(held) - 1, _LAYERS).round().astype(int)
    inner = places[1:-1]  # the first and the last layer stay
    wanted = held.index(spoken)
    if wanted not in places:
        inner[np.argmin(abs(inner - wanted))] = wanted
    return [held[i] for i in np.unique(places)]
