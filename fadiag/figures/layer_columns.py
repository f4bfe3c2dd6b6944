"""Choose the layers that get a column in a figure, and fit their names into its width."""

import re
import textwrap

import numpy as np
import xarray as xr

from fadiag.figures.captions import last_hidden
from fadiag.figures.style import PAGE

__all__ = ["MOST", "fitted", "layers_shown", "of_all", "step_label"]

#: With more columns than this a page is not readable.
MOST = 8


def layers_shown(numbers: xr.Dataset) -> list[str]:
    """Return all layers, or `MOST` layers that span the depth and include the one in the caption."""
    layers = [str(layer) for layer in numbers["layer"].values]
    if len(layers) <= MOST:
        return layers
    caption = layers.index(last_hidden(numbers))
    places = np.linspace(0, len(layers) - 1, MOST).round().astype(int)
    inner = places[1:-1]  # the first and the last layer stay
    if caption not in places:
        inner[np.argmin(abs(inner - caption))] = caption
    return [layers[i] for i in np.unique(places)]


def of_all(shown: list[str], numbers: xr.Dataset) -> str:
    """Return the small print on layers without a column."""
    count = numbers.sizes["layer"]
    return f" {len(shown)} of {count} layers are shown." if len(shown) < count else ""


def fitted(text: str, columns: int, *, letters: int = 12) -> str:
    """Break a text into lines that fit a column, also after dots and underscores in names.

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
    """Return the label of the step axis that fits the width of a column."""
    return "training step" if columns <= MOST / 2 + 1 else "step"
