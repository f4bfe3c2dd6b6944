"""Furnish a figure: add one legend above its panels, small print below them, and a letter to each panel."""

from collections.abc import Iterable
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fadiag.figures.base.legend_fit import Fit, fit, last_resort
from fadiag.figures.base.record import axes_of, records_of
from fadiag.figures.look.canvas import tallest
from fadiag.figures.look.style import current_venue, styled
from fadiag.figures.look.text import put_fonts, shown, wrapped

__all__ = ["furnish", "legend", "letters", "small_print_of"]

#: The mark of a legend that fadiag made, which later panels of the figure replace.
_OURS = "fadiag-legend"
#: The largest shares of a height that cannot grow: of small print, of a legend above the panels, and of the
#: width of a legend to their right.
_PRINT, _ABOVE, _ASIDE = 0.25, 0.33, 0.45
#: The largest share of a legend in the height of the panels, where it is added to them.
_GROWN = 0.85
_Place = Literal["outside upper center", "outside right upper"]


def furnish(figure: Figure | SubFigure | None, *, own: bool = True, grow: bool = True) -> None:
    """Update the legend of a figure and, in the style of the screen, its small print.

    A figure that is not fadiag's `own` has no room for small print; it is in the caption's file. If an own
    figure may not `grow`, it has small print where that takes a quarter of its height at most.
    """
    root = figure.figure if figure is not None else None
    if not isinstance(root, Figure):
        return
    made = _legend(root, (_GROWN if own and grow else _ABOVE) * root.get_figheight())
    if not own:
        return
    size = mpl.rcParams["font.size"] * 0.8
    words = ""
    if current_venue().small_print:
        words = wrapped(small_print_of(root), root.get_figwidth() * 0.98, size)
    below = (words.count("\n") + bool(words)) * _LINE * size / 72
    if grow:
        wide, high = root.get_size_inches()
        root.set_size_inches(wide, min(high + below + (_height(made) if made else 0.0), tallest()))
    if words and (grow or below <= _PRINT * root.get_figheight()):
        put_fonts([root.supxlabel(shown(words), fontsize=size, color="#555555", x=0.01, ha="left")])


#: The distance of lines, by the size of their type.
_LINE = 1.25


def _height(made: Legend) -> float:
    """Return the height of a legend in inches."""
    figure = made.figure
    assert figure is not None
    return float(made.get_window_extent().height / figure.dpi)


def small_print_of(target: Any) -> str:
    """Return the small print of all panels, each sentence once."""
    records = records_of(axes_of(target))
    places = {record.place for record in records if record.place and not record.missing}
    where = [f"At {places.pop()}."] if len(places) == 1 else []
    return " ".join([*where, *dict.fromkeys(note for record in records for note in record.notes)])


def legend(figure: Figure) -> Legend | None:
    """Put one legend of all panels outside of them, inside the figure, or replace the one that is there.

    It is above the panels, or to their right where it would take too much of the height. Long names have
    several lines. Names that do not fit are shortened in their middle; the caption has them in full. A figure
    with a single entry has no legend.

    Examples
    --------
    >>> legend(Figure()) is None
    True
    """
    return _legend(figure, _ABOVE * figure.get_figheight())


def _legend(figure: Figure, most: float) -> Legend | None:
    """Put a legend of a greatest height in inches above the panels, or else to their right."""
    for old in [one for one in figure.legends if one.get_gid() == _OURS]:
        old.remove()
    entries: dict[str, Artist] = {}
    for record in records_of(axes_of(figure)):
        for name, handle in record.entries.items():
            entries.setdefault(name, handle)
    entries = dict(sorted(entries.items(), key=lambda entry: _order(entry[1])))
    if len(entries) < 2:
        return None
    with styled():
        found, loc = _placed(list(entries), figure, most)
        texts = [shown(text) for text in found.labels]
        made = figure.legend(list(entries.values()), texts, loc=loc, ncols=found.columns)
    made.set_gid(_OURS)
    put_fonts(made.get_texts())
    return made


def _placed(names: list[str], figure: Figure, most: float) -> tuple[Fit, _Place]:
    """Return a legend that fits, and where it is: with whole names if it can be, and above if it can be."""
    wide, high = figure.get_size_inches()
    above, aside = (0.98 * wide, most), (_ASIDE * wide, 0.95 * high)
    for shorten in (False, True):
        if (found := fit(names, *above, shorten=shorten)) is not None:
            return found, "outside upper center"
        if (found := fit(names, *aside, shorten=shorten)) is not None:
            return found, "outside right upper"
    return last_resort(names, 0.98 * wide), "outside upper center"


def _order(handle: Artist) -> int:
    """Return the place of a legend's entry: conditions come first, then bounds, which have no marker."""
    if isinstance(handle, Patch):
        return 2
    return int(isinstance(handle, Line2D) and handle.get_marker() in ("", "None", None))


def letters(axs: Any, names: Iterable[str] = "abcdefghijklmnopqrstuvwxyz") -> None:
    """Write a bold letter above the left edge of each panel; the caption then names panels by letter.

    Parameters
    ----------
    axs : dict of Axes, array of Axes, figure
        The panels, such as those of ``plt.subplot_mosaic``, in order.
    names : iterable of str
        The letters.

    Examples
    --------
    >>> figure = Figure()
    >>> letters([figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)])
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['a', 'b']
    """
    with styled():
        size = current_venue().letter_size or mpl.rcParams["font.size"]
        for ax, name in zip(axes_of(axs), names, strict=False):
            _letter(ax, name, size)


def _letter(ax: Axes, name: str, size: float) -> None:
    ax.set_title(shown(name), loc="left", fontweight="bold", fontsize=size)
    vars(ax)["_fadiag_letter"] = name
