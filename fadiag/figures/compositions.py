"""Compose figures of several panels for the catalog."""

from collections.abc import Callable, Sequence
from functools import partial

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fadiag.figures.base.furnish import letters
from fadiag.figures.look.canvas import canvas_width
from fadiag.figures.maps.layer_step_heatmap import layer_step_heatmap
from fadiag.figures.panels import per_condition
from fadiag.figures.rank.spectrum import spectrum
from fadiag.figures.rank.update_chain import update_chain
from fadiag.figures.study.accuracy_against_rank import accuracy_against_rank
from fadiag.figures.study.two_by_two import two_by_two

__all__ = [
    "METRICS",
    "accuracies_against_ranks",
    "heat_maps",
    "rows_high",
    "side_by_side",
    "spectra",
    "two_by_twos",
    "update_chains",
    "wide",
]

#: The ranks of figures with two panels.
METRICS = ("effective_rank", "participation_ratio")
#: A title, numbers and a name take about so many times the size of the type.
_LINES = 7


def wide(canvas: Figure, aspect: float) -> None:
    """Make a figure as wide as the text of the style."""
    width = canvas_width(panels=True)
    canvas.set_size_inches(width, width * aspect)


def side_by_side(canvas: Figure, aspect: float, draws: Sequence[Callable[..., Axes]]) -> None:
    """Draw figure functions into one row of panels with letters."""
    wide(canvas, aspect)
    axs = canvas.subplots(1, len(draws))
    for ax, draw in zip(axs, draws, strict=True):
        draw(ax=ax, legend=False)
    letters(axs)


def heat_maps(results: xr.DataTree, canvas: Figure) -> None:
    """Draw the rank of the error in all layers at all steps, a panel for each condition."""
    wide(canvas, 0.4)  # about right, so that texts are fitted; the number of rows is not known yet
    per_condition(layer_step_heatmap, results, figure=canvas)
    rows_high(canvas, 0.38 if len(canvas.axes) <= 2 else 0.2)


def rows_high(canvas: Figure, share: float) -> None:
    """Give each row of panels a share of the width as its height, and room for titles, names and numbers."""
    places = [(ax.figure, ax.get_subplotspec()) for ax in canvas.axes]
    rows = len({(id(part), spec.rowspan.start) for part, spec in places if spec is not None})
    texts = _LINES * mpl.rcParams["font.size"] / 72
    wide(canvas, rows * (share + texts / canvas_width(panels=True)))


def update_chains(results: xr.DataTree, canvas: Figure) -> None:
    """Draw the chain from the gradient to the update by two ranks."""
    side_by_side(canvas, 0.4, [partial(update_chain, results, metric=metric) for metric in METRICS])


def accuracies_against_ranks(results: xr.DataTree, canvas: Figure) -> None:
    """Draw the accuracy against two ranks of error and modulator."""
    wide(canvas, 0.72)
    axs = canvas.subplots(2, 2, sharey=True)
    for row, signal in zip(axs, ("error", "modulator"), strict=True):
        for ax, metric in zip(row, METRICS, strict=True):
            accuracy_against_rank(results, signal=signal, metric=metric, ax=ax, legend=False)
            ax.set_title(signal)
        row[1].set_ylabel("")
    letters(axs)


def spectra(results: xr.DataTree, canvas: Figure) -> None:
    """Draw the singular values of the error, and the energy that the leading ones hold."""
    side_by_side(canvas, 0.4, [partial(spectrum, results, cumulative=which) for which in (False, True)])


def two_by_twos(results: xr.DataTree, canvas: Figure) -> None:
    """Draw two ranks of the error by weights and backward matrices."""
    side_by_side(canvas, 0.4, [partial(two_by_two, results, metric=metric) for metric in METRICS])
