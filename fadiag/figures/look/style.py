"""Set the look of figures for a venue: widths and type sizes, below whatever the user has set."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, cast

import matplotlib as mpl

from fadiag.errors import InputError
from fadiag.figures.look.fonts import installed
from fadiag.figures.look.settings import left_alone, settings

__all__ = ["VENUES", "Venue", "current_venue", "size", "style", "styled"]

_MM = 1 / 25.4
_SANS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
_SERIF = ("Times New Roman", "Times", "TeX Gyre Termes", "Liberation Serif", "DejaVu Serif")


@dataclass(frozen=True)
class Venue:
    """The rules of a venue: widths in inches, type sizes in points, and where the small print goes."""

    column: float
    text: float
    tallest: float
    type_size: float
    small_type: float
    family: str = "serif"
    grid: bool = False
    small_print: bool = False
    line: float = 1.0
    letter_size: float = 0.0

    @property
    def panel(self) -> float:
        """The width of a figure of one panel: a column, or half of a page with one column."""
        return self.column if self.column < self.text else self.text / 2


def _nature() -> Venue:
    # "Guide to preparing final artwork": 89 and 183 mm, at most 170 mm high, sans serif of 5 to 7 pt.
    return Venue(89 * _MM, 183 * _MM, 170 * _MM, 7, 5.5, "sans-serif", line=0.8, letter_size=8)


def _of_tueplots(name: str, tallest: float) -> Venue:
    from tueplots import figsizes, fontsizes

    widths = [
        getattr(figsizes, found)()["figure.figsize"][0]
        for half in (f"{name}_half", name, f"{name}_full")
        if hasattr(figsizes, (found := half))
    ]
    sizes = getattr(fontsizes, name)()
    return Venue(widths[0], widths[-1], tallest, sizes["font.size"], sizes["xtick.labelsize"])


@cache
def _venue(name: str) -> Venue:
    match name:
        case "screen":
            return Venue(4.2, 7.4, 40.0, 8, 7, "sans-serif", grid=True, small_print=True, line=1.3)
        case "nature":
            return _nature()
        case "slides":
            return Venue(6.0, 12.0, 6.5, 18, 15, "sans-serif", line=2.4)
        case _:
            return _of_tueplots(f"{name}2024", 9.0)


#: The names of styles. ``screen`` holds where no style is asked for.
VENUES = ("screen", "nature", "neurips", "icml", "iclr", "slides")


def venue(name: str) -> Venue:
    """Return the rules of a venue by its name."""
    if name not in VENUES:
        near = get_close_matches(name.lower(), VENUES, n=1)
        meant = f" (near: {near[0]})" if near else ""
        raise InputError(f"no style is called {name!r}{meant}; there are {', '.join(VENUES)}")
    return _venue(name)


def size(name: str, width: str = "text", *, aspect: float = 0.62) -> tuple[float, float]:
    """Return the width and height of a figure for a venue, in inches.

    Parameters
    ----------
    name : str
        ``nature``, ``neurips``, ``icml``, ``iclr``, ``slides`` or ``screen``.
    width : str
        ``text``, the whole page, or ``column``. They are equal at a venue with one column.
    aspect : float
        The height as a share of the width. No figure gets higher than the venue allows.

    Raises
    ------
    InputError
        There is no such style or width, or the aspect is not positive.

    Examples
    --------
    >>> [round(inches * 25.4) for inches in size("nature", "column", aspect=0.5)]
    [89, 44]
    >>> size("neurips", "text", aspect=0.35)[0]
    5.5
    """
    rules = venue(name)
    if width not in ("text", "column"):
        raise InputError(f"width={width!r} is neither 'text' nor 'column'")
    if not aspect > 0:
        raise InputError(f"aspect={aspect!r} is not positive; give the height as a share of the width")
    wide = rules.text if width == "text" else rules.column
    return wide, min(wide * aspect, rules.tallest)


@dataclass(frozen=True)
class _Active:
    name: str
    #: The settings outside all styles: what the user has chosen.
    user: dict[str, Any]


_ACTIVE: ContextVar[_Active | None] = ContextVar("fadiag_style", default=None)


def current_venue() -> Venue:
    """Return the rules of the style that is in use; those of the screen outside all styles."""
    active = _ACTIVE.get()
    return venue(active.name if active else "screen")


def _settings(rules: Venue) -> dict[str, Any]:
    names = _SANS if rules.family == "sans-serif" else _SERIF
    return {
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "savefig.dpi": 300,
        "font.family": installed(list(names)),
        "font.size": rules.type_size,
        "axes.titlesize": rules.type_size,
        "axes.labelsize": rules.type_size,
        "figure.titlesize": rules.type_size,
        "figure.labelsize": rules.type_size,
        "xtick.labelsize": rules.small_type,
        "ytick.labelsize": rules.small_type,
        "legend.fontsize": rules.small_type,
        "lines.linewidth": rules.line,
        "lines.markersize": 1.8 + 1.4 * rules.line,
        "axes.linewidth": rules.line / 2,
        "hatch.linewidth": 0.3 * rules.line,
        "xtick.major.width": rules.line / 2,
        "ytick.major.width": rules.line / 2,
        "xtick.major.size": 2.5 * rules.line,
        "ytick.major.size": 2.5 * rules.line,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": rules.grid,
        "axes.axisbelow": True,
        "grid.color": "#e6e6e6",
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "axes.formatter.useoffset": False,
        "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
        "ps.fonttype": 42,
        "svg.fonttype": "none",  # a text is a text, which can be searched and edited
        "svg.hashsalt": "fadiag",  # the same results give the same bytes
    }


_FAMILIES = ("font.serif", "font.sans-serif")
_SIZES = (
    *(f"axes.{part}size" for part in ("title", "label")),
    *(f"figure.{part}size" for part in ("title", "label")),
    *("xtick.labelsize", "ytick.labelsize", "legend.fontsize"),
)
_STROKES = (
    *("lines.linewidth", "lines.markersize", "axes.linewidth", "hatch.linewidth"),
    *(f"{axis}tick.major.{part}" for axis in "xy" for part in ("width", "size")),
)


#: Switches -> beginnings of settings. Who has set one of these has also chosen the switch.
_CHOSEN_WITH = {
    ("axes.spines.top", "axes.spines.right"): (
        *("axes.spines.", "axes.linewidth", "axes.edgecolor", "xtick.top", "ytick.right"),
        *("xtick.direction", "ytick.direction"),
    ),
    ("axes.grid",): ("grid.", "axes.grid."),
    ("legend.frameon",): ("legend.frame", "legend.facecolor", "legend.edgecolor", "legend.fancybox"),
}


def _below(user: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the user has left alone.

    If the user has chosen another font size, the other sizes and the strokes follow in proportion.
    """
    ours = {name: value for name, value in wanted.items() if left_alone(name, user[name])}
    for switches, names in _CHOSEN_WITH.items():
        if any(name.startswith(names) and not left_alone(name, value) for name, value in user.items()):
            ours = {name: value for name, value in ours.items() if name not in switches}
    if not all(left_alone(name, user[name]) for name in _FAMILIES):
        ours.pop("font.family", None)  # the user has chosen what serif or sans-serif means
    if "font.size" not in ours:
        factor = user["font.size"] / wanted["font.size"]
        ours |= {name: ours[name] * factor for name in (*_SIZES, *_STROKES) if name in ours}
    return ours


#: All settings that a style may change.
_OURS = {*_settings(Venue(1, 1, 1, 1, 1)), *_FAMILIES}
#: And those that say what the user has chosen.
_READ = (*_OURS, *(name for names in _CHOSEN_WITH.values() for name in names))


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw in the style of a venue inside the block; what the user has set in matplotlib wins.

    Only settings that the user left alone are changed. They are restored at the end of the block. matplotlib
    does not say whether a switch such as ``axes.spines.top`` was set to its default: set such a one, or use
    your style sheet, inside the block. The user's ``figure.figsize`` is the size of a figure with one panel,
    and the width of one with several. Else figures grow with the user's type.

    In the style ``screen``, small print below the figure gives N, seeds and definitions. In the other styles
    it goes to the caption file of `fadiag.figures.save`.

    Parameters
    ----------
    name : str
        ``nature``, ``neurips``, ``icml``, ``iclr``, ``slides`` or ``screen``.

    Raises
    ------
    InputError
        There is no such style.

    Examples
    --------
    >>> import matplotlib
    >>> with style("nature"):
    ...     matplotlib.rcParams["font.size"]
    7.0
    """
    active = _ACTIVE.get()
    user = active.user if active else {k: v for k, v in settings().items() if k.startswith(_READ)}
    ours = _below(user, _settings(venue(name)))
    token = _ACTIVE.set(_Active(name, user))
    try:
        with mpl.rc_context(cast("Any", {**user, **ours})):
            yield
    finally:
        _ACTIVE.reset(token)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style that is in use; in the screen's outside all styles."""
    if _ACTIVE.get():
        yield
    else:
        with style("screen"):
            yield
