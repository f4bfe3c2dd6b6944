"""The layers that a figure has a column for, and their names in the width of one."""

import re
import textwrap

import numpy as np
import xarray as xr

from fadiag.figures.captions import last_hidden
from fadiag.figures.style import PAGE

__all__ = ["MOST", "fitted", "layers_shown", "of_all", "step_label"]

#: Columns of more layers than this could not be read on a page.
MOST = 8


def layers_shown(numbers: xr.Dataset) -> list[str]:
    """Return all layers, or of too many `MOST` that span the depth, the one that is told of among them."""
    layers = [str(layer) for layer in numbers["layer"].values]
    if len(layers) <= MOST:
        return layers
    told = layers.index(last_hidden(numbers))
    places = np.linspace(0, len(layers) - 1, MOST).round().astype(int)
    inner = places[1:-1]  # the first and the last layer stay
    if told not in places:
        inner[np.argmin(abs(inner - told))] = told
    return [layers[i] for i in np.unique(places)]


def of_all(shown: list[str], numbers: xr.Dataset) -> str:
    """Return what the small print says of layers that have no column."""
    count = numbers.sizes["layer"]
    return f" {len(shown)} of {count} layers are drawn." if len(shown) < count else ""


def fitted(text: str, columns: int, *, letters: int = 12) -> str:
    """Break a text into lines of so many letters an inch; a name also after its dots and underscores.

    >>> print(fitted("encoder.layers.0.self_attention", 4))
    encoder.layers.0.
    self_attention
    >>> print(fitted("the error of fc1", 4))
    the error of fc1
    """
    width = PAGE * letters / columns
    lines = []
    for whole in text.splitlines():
        lines.append("")
        for piece in re.findall(r"[^\s._]+[\s._]*|[\s._]+", whole):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join("\n".join(textwrap.wrap(line, int(width))) for line in lines)


def step_label(columns: int) -> str:
    """Return the name of the steps' axis, in the width of a column."""
    return "training step" if columns <= MOST / 2 + 1 else "step"
