"""Shared by the tests of figures: panels on a bare figure, and the texts that are drawn."""

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from fadiag import figures as ff
from tests.results.synthetic_results import synthetic

#: The height of a line of names of layers, in points.
SLANTED_LINE = 6.8
#: All functions that draw one Axes.
FUNCTIONS = (
    ff.rank_by_depth,
    ff.rank_over_training,
    ff.rank_gap,
    ff.alignment_over_training,
    ff.credit_cosine,
    ff.overlap_over_training,
    ff.accuracy_over_training,
    ff.conditions,
)


def axes(width=4.2, height=3.0):
    """Return the Axes of a figure that pyplot does not know."""
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def draw(function, results=None, **options):
    """Return the Axes of a figure function."""
    return function(synthetic() if results is None else results, ax=axes(), **options)


def texts(figure):
    """Return every text that is drawn, with its box in pixels and its angle."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    of_ticks, found = set(), []
    for ax in figure.axes:
        if not ax.get_visible():
            of_ticks |= set(ax.findobj(Text))
            continue
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                of_ticks |= {tick.label1, tick.label2}
                if low <= tick.get_loc() <= high and tick.label1.get_visible() and tick.label1.get_text():
                    found.append(tick.label1)
    found += [
        t for t in figure.findobj(Text) if t not in of_ticks and t.get_visible() and t.get_text().strip()
    ]
    return [(t.get_text(), t.get_window_extent(renderer), t.get_rotation()) for t in found]


def assert_inside(figure):
    """Assert that no text is cut at an edge."""
    width, height = figure.get_size_inches() * figure.dpi
    for text, box, _ in texts(figure):
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text


def small_print_under(figure):
    """Return the small print as it is drawn, in one line."""
    return " ".join(figure.get_supxlabel().split())


def assert_apart(figure):
    """Assert that no text lies over another one."""
    for (one, a, slant), (other, b, slant_too) in itertools.combinations(texts(figure), 2):
        if slant % 90 and slant == slant_too:  # the boxes of slanted lines meet, the lines do not
            across = abs(a.x1 - b.x1) * np.sin(np.radians(slant))
            assert across >= 0.9 * SLANTED_LINE * figure.dpi / 72, f"{one!r} lies over {other!r}"
            continue
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width < 1 or height < 1, f"{one!r} lies over {other!r}"
