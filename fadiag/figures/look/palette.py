"""List the looks of conditions: ten colors with a line style and a marker each."""

from dataclasses import dataclass

import matplotlib as mpl

__all__ = ["COLORS", "NULL_COLOR", "Look", "look"]

#: Ten colors. Any two differ by at least 20 (CIE76) in normal sight and under simulated deuteranopia,
#: protanopia and tritanopia, and each has a lightness of its own. ``tests/figures/test_palette.py`` measures
#: both. The first is for the baseline.
COLORS = (
    *("#000000", "#e06c79", "#4e51bf", "#7ad1c8", "#64761c"),
    *("#912145", "#8f95f7", "#aeba4e", "#5d2b67", "#9e6da6"),
)
#: Line styles and markers. Their numbers have no common divisor with ten, so they repeat later than colors.
DASHES: tuple[object, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (2.5, 1.2)),
    (0, (8, 2)),
    (0, (4, 1.2, 1.2, 1.2, 1.2, 1.2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

#: The color of nulls that no condition has of its own.
NULL_COLOR = "#8a8a8a"


@dataclass(frozen=True)
class Look:
    """How a condition is drawn."""

    color: str
    dash: object
    marker: str


def look(place: int) -> Look:
    """Return the look of a place in the order of conditions; the colors of the user's cycle come first.

    Examples
    --------
    >>> look(0).color != look(1).color, look(0).marker != look(1).marker
    (True, True)
    """
    cycle = mpl.rcParams["axes.prop_cycle"]
    changed = cycle != mpl.rcParamsDefault["axes.prop_cycle"]
    colors = cycle.by_key().get("color", COLORS) if changed else COLORS
    return Look(colors[place % len(colors)], DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)])
