"""Draw the figures of a report, or give the reason why a figure cannot be drawn."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import FIGURES, Figure, caption, drawable, svg

__all__ = ["Picture", "not_drawn", "pictures"]


@dataclass(frozen=True)
class Picture:
    """One figure for the template; ``missing`` is the reason if it cannot be drawn."""

    name: str
    title: str
    caption: str = ""
    uri: str = ""
    missing: str = ""


def _picture(figure: Figure, results: xr.DataTree) -> Picture:
    try:
        # A separate image, since the ids of several inline SVG figures would clash.
        drawn = figure.draw(results)
        code = base64.b64encode(svg(drawn).encode()).decode()
        words = caption(drawn)
    except FadiagError as error:
        return Picture(figure.name, figure.title, missing=str(error))
    return Picture(figure.name, figure.title, words, f"data:image/svg+xml;base64,{code}")


def not_drawn(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[str]:
    """Return a line for each figure that lacks a variable.

    Examples
    --------
    >>> from fadiag.figures import find
    >>> not_drawn(xr.DataTree(), [find("overlap_over_training")])
    ['figure overlap_over_training: error_overlap not in the results']
    """
    found = [(figure.name, figure.missing(results)) for figure in figures]
    return [f"figure {name}: {', '.join(gone)} not in the results" for name, gone in found if gone]


def pictures(results: xr.DataTree) -> list[Picture]:
    """Return each figure, or the reason why it cannot be drawn."""
    return [_picture(figure, results) for figure in drawable(results)]
