"""Draw a figure function once for each layer, side by side on one scale."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from fadiag.figures.base.axes import axes_size, is_blank
from fadiag.figures.base.furnish import furnish
from fadiag.figures.base.layers import chosen_layers, layers_of, primary_layer
from fadiag.figures.base.record import records_of, silent
from fadiag.figures.look.canvas import canvas_width
from fadiag.figures.look.style import styled
from fadiag.figures.look.text import put_fonts, shortened, shown, wrapped
from fadiag.store.tools.printable import printable

__all__ = ["per_layer"]

#: With more panels than this a page is not readable.
MOST = 8
_COLUMNS = 4
#: The longest name of a layer above its panel.
_LETTERS = 32


def per_layer(
    draw: Callable[..., Axes],
    results: xr.DataTree,
    *,
    layers: str | Sequence[str] | None = None,
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
    held = layers_of(results)
    spoken = caption_layer or primary_layer(results)
    shown_layers = chosen_layers(held, layers) if layers is not None else _spanning(held, spoken)
    count = max(1, len(shown_layers))
    columns = min(_COLUMNS, count) if count != MOST / 2 + 1 else 3
    rows = -(-count // columns)
    with styled():
        given = figure is not None
        if figure is None:
            import matplotlib.pyplot as plt

            width = canvas_width(panels=True)
            figure = plt.figure(figsize=(width, rows * width / columns * 0.8), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, ax in enumerate(grid.flat):
            if place >= count:
                ax.set_visible(False)
                continue
            layer = shown_layers[place] if shown_layers else None
            with silent(layer != spoken and count > 1):
                draw(results, layer=layer, ax=ax, legend=False, **options)
            if layer is not None:
                size = mpl.rcParams["font.size"]
                ax.set_title(shown(wrapped(shortened(printable(layer), _LETTERS), axes_size(ax)[0], size)))
                put_fonts([ax.title])

            if len(shown_layers) < len(held) and layers is None:
                for record in records_of([ax]):
                    record.note(f"{len(shown_layers)} of {len(held)} layers are drawn.")
            _outer(grid)
        furnish(figure, own=not given)
    return figure


def _outer(grid: NDArray[Any]) -> None:
    """Name the axes at the left and at the bottom only; a blank panel leaves it to the next one."""
    for row in grid:
        drawn = [ax for ax in row if ax.get_visible() and not is_blank(ax)]
        for ax in drawn[:1]:
            ax.tick_params(labelleft=True)
        for ax in drawn[1:]:
            ax.set_ylabel("")
    for column in grid.T:
        drawn = [ax for ax in column if ax.get_visible()]
        for ax in drawn[:-1]:
            ax.set_xlabel("")
        if drawn and not is_blank(drawn[-1]):
            drawn[-1].tick_params(labelbottom=True)


def _spanning(held: Sequence[str], spoken: str) -> list[str]:
    """Return all layers, or `MOST` that span the depth and include the one of the caption."""
    if len(held) <= MOST:
        return list(held)
    places = np.linspace(0, len(held) - 1, MOST).round().astype(int)
    inner = places[1:-1]  # the first and the last layer stay
    wanted = held.index(spoken)
    if wanted not in places:
        inner[np.argmin(abs(inner - wanted))] = wanted
    return [held[i] for i in np.unique(places)]
