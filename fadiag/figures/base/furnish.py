"""Furnish a figure: add one legend above its panels, small print below them, and a letter to each panel."""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.patches import Patch

from fadiag.figures.base.record import axes_of, records_of
from fadiag.figures.look.style import current_venue, styled
from fadiag.figures.look.text import put_fonts, shortened, shown, width_of, wrapped

__all__ = ["furnish", "furniture_height", "legend", "letters", "small_print_of"]

#: The mark of a legend that fadiag made, which later panels of the figure replace.
_OURS = "fadiag-legend"
#: Names are shortened before a legend gets more rows than this.
_ROWS = 4


def furnish(figure: Figure | SubFigure | None, *, small_print: bool = True) -> None:
    """Update the legend of a figure and, in the style of the screen, its small print.

    A figure of the user's own size has no room for ``small_print``; it is in the caption's file.
    """
    root = figure.figure if figure is not None else None
    if not isinstance(root, Figure):
        return
    legend(root)
    if small_print and current_venue().small_print:
        size = mpl.rcParams["font.size"] * 0.8
        words = wrapped(small_print_of(root), root.get_figwidth() * 0.98, size)
        below = root.supxlabel(shown(words), fontsize=size, color="#555555", x=0.01, ha="left")
        put_fonts([below])


def furniture_height(figure: Figure) -> float:
    """Return about how many inches the legend and the small print of a figure take from its height."""
    lines = figure.get_supxlabel().count("\n") + bool(figure.get_supxlabel())
    ours = [one for one in figure.legends if one.get_gid() == _OURS]
    rows = sum(-(-len(one.get_texts()) // int(vars(one)["_ncols"])) for one in ours)
    size = mpl.rcParams["font.size"] / 72
    return float(size * (1.1 * lines + 1.7 * rows))


def small_print_of(target: Any) -> str:
    """Return the small print of all panels, each sentence once."""
    records = records_of(axes_of(target))
    return " ".join(dict.fromkeys(note for record in records for note in record.notes))


def legend(figure: Figure) -> Legend | None:
    """Put one legend of all panels above them, inside the figure, or replace the one that is there.

    Long names are shortened in their middle until they fit; the caption has them in full. A figure with a
    single entry has no legend.

    Examples
    --------
    >>> legend(Figure()) is None
    True
    """
    for old in [one for one in figure.legends if one.get_gid() == _OURS]:
        old.remove()
    entries: dict[str, Artist] = {}
    for record in records_of(axes_of(figure)):
        for name, handle in record.entries.items():
            entries.setdefault(name, handle)
    # Conditions come first, nulls last.
    entries = dict(sorted(entries.items(), key=lambda entry: isinstance(entry[1], Patch)))
    if len(entries) < 2:
        return None
    with styled():
        labels, columns = _fitted(list(entries), figure.get_figwidth() * 0.98)
        made = figure.legend(
            list(entries.values()),
            [shown(text) for text in labels],
            loc="outside upper center",
            ncols=columns,
        )
    made.set_gid(_OURS)
    put_fonts(made.get_texts())
    return made


def _fitted(labels: list[str], inches: float) -> tuple[list[str], int]:
    """Return labels that fit a legend of a width, and its columns; at most four rows if possible."""
    size = _points(mpl.rcParams["legend.fontsize"])
    handle = (mpl.rcParams["legend.handlelength"] + mpl.rcParams["legend.handletextpad"]) * size / 72
    gap = mpl.rcParams["legend.columnspacing"] * size / 72
    edge = 2 * mpl.rcParams["legend.borderpad"] * size / 72
    longest = max(map(len, labels))
    for letters in (*range(longest, 10, -max(1, longest // 30)), 10):
        short = [shortened(text, letters) for text in labels]
        widths = [width_of(text, size) + handle for text in short]
        for rows in range(1, len(labels) + 1 if letters == 10 else _ROWS + 1):
            columns = -(-len(labels) // rows)
            # Entries go down the columns.
            each = [max(widths[i : i + rows]) for i in range(0, len(widths), rows)]
            if sum(each) + gap * (len(each) - 1) + edge <= inches:
                return short, columns
    return short, 1


def _points(size: float | str) -> float:
    from matplotlib.font_manager import FontProperties

    return float(FontProperties(size=size).get_size_in_points())


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
