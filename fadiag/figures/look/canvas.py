"""Choose the size of a figure that fadiag makes: the user's, else the style's, larger for larger type."""

import matplotlib as mpl
from matplotlib.font_manager import FontProperties

from fadiag.figures.look.settings import left_alone, settings
from fadiag.figures.look.style import current_venue

__all__ = ["canvas_width", "points", "tallest", "type_factor", "user_size"]

_TYPES = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
#: What the small type of a style is, relative to its type.
_SMALL = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize")


def points(size: float | str) -> float:
    """Return a font size, which may be a word such as ``large``, in points.

    Examples
    --------
    >>> points(7), points("medium") == mpl.rcParams["font.size"]
    (7.0, True)
    """
    return float(FontProperties(size=size).get_size_in_points())


def type_factor() -> float:
    """Return how much larger the user's type is than that of the style; 1 if it is not larger.

    Examples
    --------
    >>> from fadiag.figures.look.style import styled
    >>> with mpl.rc_context({"font.size": 20.0}), styled():
    ...     type_factor()
    2.5
    """
    rules = current_venue()
    own = {name: rules.small_type if name in _SMALL else rules.type_size for name in _TYPES}
    return max(1.0, *(points(settings()[name]) / own[name] for name in _TYPES))


def user_size() -> tuple[float, float] | None:
    """Return the user's ``figure.figsize`` in inches; None if it is left alone.

    Examples
    --------
    >>> with mpl.rc_context({"figure.figsize": (3, 2)}):
    ...     user_size()
    (3.0, 2.0)
    """
    if left_alone("figure.figsize", mpl.rcParams["figure.figsize"]):
        return None
    wide, high = mpl.rcParams["figure.figsize"]
    return float(wide), float(high)


def canvas_width(*, panels: bool) -> float:
    """Return the width of a figure in inches: the user's; else the style's, which grows with the type.

    A figure with several panels is as wide as the text. A page sets how wide a figure can get, a screen not.
    """
    if (user := user_size()) is not None:
        return user[0]
    rules, factor = current_venue(), type_factor()
    text = rules.text * (factor if rules.small_print else 1.0)
    return text if panels else min(rules.panel * factor, text)


def tallest() -> float:
    """Return the greatest height of a figure in the style, in inches."""
    return current_venue().tallest
