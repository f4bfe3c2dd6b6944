"""A figure grows with its type and its legend, and the user's size and settings win."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from fadiag import figures as ff
from fadiag.figures import find
from fadiag.figures.look.text import wrapped
from tests.figures.drawing import assert_apart, assert_inside, axes, draw
from tests.results.synthetic_results import CONDITIONS, SMALL, synthetic

SIX = synthetic()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def boxes(ax):
    """Return the boxes of Axes and legend in shares of the figure, after the layout."""
    figure = ax.figure
    figure.draw_without_rendering()
    (legend,) = figure.legends
    return ax.get_position(), legend.get_window_extent().transformed(figure.transFigure.inverted())


def test_a_figure_grows_with_the_type() -> None:
    small = ff.credit_cosine(SIX).figure.get_size_inches()
    for settings in ({"font.size": 20.0}, dict.fromkeys(("xtick.labelsize", "axes.labelsize"), 20.0)):
        with mpl.rc_context(settings):
            ax = ff.credit_cosine(SIX)
        assert ax.figure.get_size_inches()[0] >= 2.4 * small[0]
        assert_inside(ax.figure)
        assert_apart(ax.figure)
        place, legend = boxes(ax)
        assert legend.y0 >= place.y1
        assert place.height > 0.4
    with mpl.rc_context({"font.size": 20.0}):
        canvas = find("credit_cosine").draw(SIX)
    assert_inside(canvas)
    assert_apart(canvas)


def test_a_column_grows_with_its_legend_and_no_name_is_cut() -> None:
    with ff.style("neurips"):
        ax = ff.credit_cosine(SIX)
        assert ax.figure.get_figwidth() == 2.75
    place, legend = boxes(ax)
    assert not any("…" in text.get_text() for text in ax.figure.legends[0].get_texts())
    assert legend.height < 0.34
    assert place.height > 0.42


def test_entries_lie_in_the_columns_that_were_measured() -> None:
    names = ("bp", "a long condition name", "fa", "another long name", "x", "y", "z")
    for width in (2.0, 2.75, 3.5, 5.5):
        ax = axes(width, 3.0)
        ff.accuracy_over_training(synthetic(names), ax=ax)
        assert_inside(ax.figure)
        assert_apart(ax.figure)


def test_the_size_of_the_user_wins() -> None:
    for size in ((5.0, 3.0), (6.4, 4.8)):  # the latter is matplotlib's default
        with mpl.rc_context({"figure.figsize": size}):
            for ax in (ff.rank_by_depth(SIX), ff.layer_step_heatmap(SIX, condition="fa")):
                assert tuple(ax.figure.get_size_inches()) == size
            assert find("rank_gap").draw(SIX).get_figwidth() == size[0]
            with ff.style("nature"):
                assert tuple(ff.accuracy_over_training(SIX).figure.get_size_inches()) == size


def test_small_print_without_room_is_in_the_caption_only() -> None:
    with mpl.rc_context({"figure.figsize": (4.0, 2.4), "font.size": 14.0}):
        ax = ff.rank_by_depth(synthetic(**SMALL))
    assert ax.figure.get_supxlabel() == ""
    assert "3 seeds per condition" in ff.small_print(ax)
    with mpl.rc_context({"figure.figsize": (6.0, 5.0)}):
        assert "3 seeds per condition" in ff.rank_by_depth(synthetic(**SMALL)).figure.get_supxlabel()


def test_a_legend_without_room_above_is_to_the_right() -> None:
    ax = axes(5.0, 0.85)
    ff.accuracy_over_training(synthetic([f"anameofmanyletters{i}" for i in range(4)]), ax=ax)
    place, legend = boxes(ax)
    assert legend.x0 >= place.x1
    assert place.height > 0.25


def test_settings_at_the_default_of_matplotlib_win_too(tmp_path) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("font.size: 10\nlines.linewidth: 1.5\nxtick.direction: in\naxes.spines.top: True\n")
    with plt.style.context(sheet):
        ax = draw(ff.accuracy_over_training, synthetic(**SMALL))
        with ff.style("nature"):
            nature = draw(ff.accuracy_over_training, synthetic(**SMALL))
    for each in (ax, nature):
        assert each.yaxis.label.get_fontsize() == 10
        assert 1.5 in {line.get_linewidth() for line in each.lines}
        assert each.spines["top"].get_visible()
    with ff.style("nature"):
        mpl.rcParams["axes.spines.right"] = True
        inside = draw(ff.accuracy_over_training, synthetic(**SMALL))
    assert inside.spines["right"].get_visible()
    assert not draw(ff.accuracy_over_training, synthetic(**SMALL)).spines["right"].get_visible()


def test_strokes_follow_the_type() -> None:
    width = max(line.get_linewidth() for line in draw(ff.accuracy_over_training).lines)
    with mpl.rc_context({"font.size": 16.0}):
        large = max(line.get_linewidth() for line in draw(ff.accuracy_over_training).lines)
    assert large == pytest.approx(2 * width)


def test_a_per_cent_sign_stays_with_its_number() -> None:
    for inches in (0.5, 0.8, 1.1, 1.4, 1.7, 2.0):
        assert not any(
            line.startswith("%") for line in wrapped("the central 95 % of it", inches, 10).split("\n")
        )


def labelled(axis):
    axis.axes.get_figure(root=True).draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1.get_text()
        for tick in axis.get_major_ticks()
        if low <= tick.get_loc() <= high and tick.label1.get_text()
    ]


def test_short_and_long_logarithmic_axes_have_a_few_numbers() -> None:
    with ff.style("neurips"):
        axis = ff.accuracy_against_rank(SIX).xaxis
        assert labelled(axis) == ["60", "80", "100", "120", "140"]
        for part in find("rank_over_training").draw(SIX).axes[::4]:
            assert 2 <= len(labelled(part.yaxis)) <= 4
    ax = ff.rank_by_depth(synthetic(("fa",), (0,)))
    for low, high in ((3, 4), (90, 110), (1, 2), (0.8, 9), (20, 400), (1, 1e6)):
        ax.set_ylim(low, high)
        assert 3 <= len(labelled(ax.yaxis)) <= 13, (low, high)


def test_one_value_has_no_axis_of_decades() -> None:
    results = synthetic(**SMALL)
    results["probe"] = results["probe"].to_dataset().isel(step=[0])
    low, high = draw(ff.rank_over_training, results).get_ylim()
    assert high / low < 10


def test_a_null_is_wider_than_the_marker_before_it() -> None:
    for count in (1, 3, 6):
        with ff.style("neurips"):
            ax = ff.rank_by_depth(SIX, metric="participation_ratio", conditions=CONDITIONS[:count])
        ax.figure.draw_without_rendering()
        (bar, *_) = ax.patches
        marker = max(line.get_markersize() for line in ax.lines if line.get_linestyle() != "None")
        wide = bar.get_window_extent().width * 72 / ax.figure.dpi
        assert wide > 1.3 * marker
        assert bar.get_linewidth() > 0
        assert bar.get_edgecolor()[3] > bar.get_facecolor()[3]


def test_names_of_an_image_are_evenly_spread() -> None:
    for width in (2.2, 2.8, 3.5, 4.2):
        ax = axes(width, 2.0)
        ff.layer_step_heatmap(SIX, condition="fa", ax=ax)
        places = list(ax.get_xticks())
        assert (places[0], places[-1]) == (0, 8)
        assert len({b - a for a, b in itertools.pairwise(places)}) == 1


def test_rows_of_many_conditions_have_room() -> None:
    ax = ff.conditions(synthetic([f"condition {i}" for i in range(30)], seeds=(0,)))
    assert_inside(ax.figure)
    assert_apart(ax.figure)
