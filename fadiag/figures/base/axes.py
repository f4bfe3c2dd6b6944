"""Make Axes for a panel, dress those that the user gives, and write a reason into empty ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.text import Text

from fadiag.figures.look.canvas import canvas_width, user_size
from fadiag.figures.look.settings import settings
from fadiag.figures.look.text import put_fonts, shortened, shown, wrapped

__all__ = ["axes_size", "dress", "is_blank", "lay_out", "leave_blank", "own_axes"]

#: The height of a figure of one panel as a share of its width, without legend and small print.
ASPECT = 0.62


@contextmanager
def own_axes(ax: Axes | None) -> Iterator[Axes]:
    """Yield the given Axes; else those of a new figure, which is closed again if the block raises."""
    if ax is not None:
        lay_out(ax)
        yield ax
        return
    import matplotlib.pyplot as plt

    width = canvas_width(panels=False)
    figure = plt.figure(figsize=user_size() or (width, ASPECT * width), layout="constrained")
    try:
        yield figure.add_subplot()
    except BaseException:
        plt.close(figure)
        raise


def lay_out(ax: Axes) -> None:
    """Give a figure without a layout engine the constrained one, so that legends and labels have room."""
    figure = ax.figure.figure
    if figure is not None and isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine | None):
        figure.set_layout_engine("constrained")


def axes_size(ax: Axes) -> tuple[float, float]:
    """Return the width and height of Axes in inches; before the layout is known, about what it will be."""
    box = ax.get_position()
    figure = ax.figure.figure
    assert figure is not None
    wide, high = figure.get_size_inches()
    return float(box.width * wide), float(box.height * high)


def dress(ax: Axes, *, grows: bool = False) -> None:
    """Set ticks, spines and grid as the style has them, also for Axes that were made outside of it.

    `grows`: whether the figure gets higher by what its legend takes.
    """
    rc = settings()
    for axis in ("x", "y"):
        ax.tick_params(
            axis=axis,
            labelsize=rc[f"{axis}tick.labelsize"],
            labelfontfamily=rc["font.family"],
            width=rc[f"{axis}tick.major.width"],
            length=rc[f"{axis}tick.major.size"],
        )
    for side in ("top", "right"):
        if side in ax.spines:
            ax.spines[side].set_visible(rc[f"axes.spines.{side}"])
    for spine in ax.spines.values():
        spine.set_linewidth(rc["axes.linewidth"])
    ax.set_axisbelow(rc["axes.axisbelow"])

    if rc["axes.grid"] and not is_blank(ax) and not ax.images:
        ax.grid(visible=True, color=rc["grid.color"], linewidth=rc["grid.linewidth"])
    else:
        ax.grid(visible=False)
    for text, part in ((ax.xaxis.label, "label"), (ax.yaxis.label, "label"), (ax.title, "title")):
        text.set(fontsize=rc[f"axes.{part}size"], fontfamily=rc["font.family"])
    # Legend and ticks leave about three quarters of the height; a longer label would be cut at the edge.
    high = (1.0 if grows else 0.75) * axes_size(ax)[1]
    ax.set_ylabel(wrapped(ax.get_ylabel(), high, float(ax.yaxis.label.get_fontsize())))

    names = [ax.xaxis.label, ax.yaxis.label, ax.title, *ax.texts]
    put_fonts([*names, *ax.get_xticklabels(), *ax.get_yticklabels()])


def is_blank(ax: Axes) -> bool:
    """Return whether Axes hold a reason in place of a drawing."""
    return bool(vars(ax).get("_fadiag_blank", False))


def leave_blank(ax: Axes, reason: str) -> Text:
    """Write into Axes why nothing is drawn there."""
    size = mpl.rcParams["font.size"] * 0.85
    wide, high = axes_size(ax)
    words = wrapped(f"Not drawn: {reason}", 0.85 * wide, size)
    while words.count("\n") * 1.3 * size / 72 > 0.8 * high and len(reason) > 20:  # the caption has it whole
        reason = shortened(reason, len(reason) - 10)
        words = wrapped(f"Not drawn: {reason}", 0.85 * wide, size)
    # Not set_xticks: a panel may share its axis with others.
    ax.tick_params(which="both", left=False, bottom=False, labelleft=False, labelbottom=False)
    ax.grid(visible=False)
    ax.set(xlabel="", ylabel="")
    vars(ax)["_fadiag_blank"] = True
    return ax.text(
        *(0.5, 0.5),
        shown(words),
        transform=ax.transAxes,
        ha="center",
        va="center",
        color="#555555",
        fontsize=size,
    )
