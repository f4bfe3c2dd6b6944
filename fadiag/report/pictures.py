"""The figures of a report: picture, sentence and small print, or the reason why there is none."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import xarray as xr

from fadiag.errors import FadiagError
from fadiag.figures import FIGURES, svg
from fadiag.figures.figure import Figure

__all__ = ["Picture", "not_drawn", "pictures"]


@dataclass(frozen=True)
class Picture:
    """One figure as the template takes it; ``missing`` says why there is none."""

    name: str
    title: str
    caption: str = ""
    uri: str = ""
    missing: str = ""


def _picture(figure: Figure, results: xr.DataTree) -> Picture:
    try:
        # An image of its own rather than inline SVG: ids of several figures in one document would clash.
        code = base64.b64encode(svg(figure.draw(results)).encode()).decode()
        caption = figure.caption(results)
    except FadiagError as error:
        return Picture(figure.name, figure.title, missing=str(error))
    return Picture(figure.name, figure.title, caption, f"data:image/svg+xml;base64,{code}")


def not_drawn(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[str]:
    """Return the figures that the results do not allow, and those that lack a variable, a line each.

    Examples
    --------
    >>> not_drawn(xr.DataTree(), FIGURES[:1])[0].startswith("figure accuracy: ")
    True
    """
    told = []
    for figure in figures:
        try:
            missing = figure.numbers(results).attrs["missing"]
        except FadiagError as error:
            told.append(f"figure {figure.name}: {error}")
        else:
            told += [f"figure {figure.name}: {', '.join(missing)} not in the results"] if missing else []
    return told


def pictures(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[Picture]:
    """Return every figure that the results allow, and the reason for each that they do not."""
    return [_picture(figure, results) for figure in figures]
