"""Draw the figures of a report, or give the reason why a figure cannot be drawn."""

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
    """One figure for the template; ``missing`` is the reason if it cannot be drawn."""

    name: str
    title: str
    caption: str = ""
    uri: str = ""
    missing: str = ""


def _picture(figure: Figure, results: xr.DataTree) -> Picture:
    try:
        # A separate image, since the ids of several inline SVG figures would clash.
        code = base64.b64encode(svg(figure.draw(results)).encode()).decode()
        caption = figure.caption(results)
    except FadiagError as error:
        return Picture(figure.name, figure.title, missing=str(error))
    return Picture(figure.name, figure.title, caption, f"data:image/svg+xml;base64,{code}")


def not_drawn(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[str]:
    """Return a line for each figure that cannot be drawn or lacks a variable.

    Examples
    --------
    >>> not_drawn(xr.DataTree(), FIGURES[:1])[0].startswith("figure accuracy: ")
    True
    """
    lines = []
    for figure in figures:
        try:
            missing = figure.numbers(results).attrs["missing"]
        except FadiagError as error:
            lines.append(f"figure {figure.name}: {error}")
        else:
            lines += [f"figure {figure.name}: {', '.join(missing)} not in the results"] if missing else []
    return lines


def pictures(results: xr.DataTree, figures: Iterable[Figure] = FIGURES) -> list[Picture]:
    """Return each figure, or the reason why it cannot be drawn."""
    return [_picture(figure, results) for figure in figures]
