"""Styles set a venue's sizes below whatever the user has set in matplotlib."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import InputError
from fadiag.figures.look.style import VENUES
from tests.figures.drawing import draw
from tests.results.synthetic_results import SMALL, synthetic


def panel(style=None, **options):
    if style is None:
        return draw(ff.accuracy_over_training, synthetic(**SMALL), **options)
    with ff.style(style):
        return draw(ff.accuracy_over_training, synthetic(**SMALL), **options)


@pytest.mark.parametrize(
    ("venue", "width", "inches"),
    [
        ("nature", "column", 89 / 25.4),
        ("nature", "text", 183 / 25.4),
        ("neurips", "text", 5.5),
        ("iclr", "text", 5.5),
        ("icml", "column", 3.25),
        ("icml", "text", 6.75),
    ],
)
def test_venues_have_their_widths(venue, width, inches) -> None:
    wide, high = ff.size(venue, width, aspect=0.5)
    assert wide == pytest.approx(inches)
    assert high == pytest.approx(inches / 2)


def test_a_figure_is_not_higher_than_its_venue_allows() -> None:
    assert ff.size("nature", "text", aspect=3)[1] == pytest.approx(170 / 25.4)


@pytest.mark.parametrize("venue", VENUES)
def test_types_lie_within_what_a_venue_asks(venue) -> None:
    ax = panel(venue)
    low, high = {"nature": (5, 7), "slides": (14, 24), "screen": (6, 9)}.get(venue, (6, 9))
    texts = [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.figure.legends[0].get_texts()]
    assert {low <= text.get_fontsize() <= high for text in texts} == {True}


def test_nature_has_no_grid_and_small_bold_letters() -> None:
    with ff.style("nature"):
        ax = panel("nature")
        ff.letters([ax])
    assert not any(line.get_visible() for line in ax.get_xgridlines())
    assert any(line.get_visible() for line in panel().get_xgridlines())
    letter = ax._left_title
    assert (letter.get_text(), letter.get_fontweight(), letter.get_fontsize()) == ("a", "bold", 8)


def test_small_print_is_under_a_figure_of_ours_on_the_screen_only() -> None:
    ours = ff.rank_by_depth(synthetic(("bp", "fa")))
    plt.close(ours.figure)
    assert " ".join(ours.figure.get_supxlabel().split()) == ff.small_print(ours)
    own = panel()  # of the user's size, without room for it
    assert own.figure.get_supxlabel() == ""
    assert "3 seeds per condition" in ff.small_print(own)
    paper = panel("neurips")
    assert paper.figure.get_supxlabel() == ""
    assert "3 seeds per condition" in ff.small_print(paper)


def test_what_the_user_set_wins(tmp_path) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("font.family: serif\nfont.size: 20\naxes.linewidth: 3\n")
    for style in (None, "nature"):
        with plt.style.context(sheet):
            ax = panel(style)
        assert ax.yaxis.label.get_fontfamily() == ["serif"]
        assert ax.yaxis.label.get_fontsize() == pytest.approx(20)
        tick = ax.get_xticklabels()[0].get_fontsize()
        assert 14 <= tick <= 20  # in proportion to the user's size
        assert ax.spines["left"].get_linewidth() == 3
    with mpl.rc_context({"axes.labelsize": 31.0, "lines.linewidth": 7.0}):
        ax = panel("icml")
    assert ax.yaxis.label.get_fontsize() == 31
    assert 7.0 in {line.get_linewidth() for line in ax.lines}


def test_styles_are_left_behind_and_nested() -> None:
    before = dict(mpl.rcParams)
    with ff.style("nature"):
        nature = mpl.rcParams["font.size"]
        with ff.style("slides"):
            assert mpl.rcParams["font.size"] > 2 * nature
        assert mpl.rcParams["font.size"] == nature
    panel()
    assert dict(mpl.rcParams) == before


def test_fonts_stay_with_the_texts_after_the_block() -> None:
    ax = panel("neurips")
    assert "DejaVu Serif" in ax.yaxis.label.get_fontfamily()
    assert ">training step</text>" in ff.svg(ax)
    assert "DejaVu Sans" not in ff.svg(ax)
    with mpl.rc_context({"font.sans-serif": ["DejaVu Sans Mono"]}):
        assert panel("nature").yaxis.label.get_fontfamily() == ["sans-serif"]


def test_axes_made_outside_the_style_are_dressed_alike() -> None:
    outside = Figure().add_subplot()
    with ff.style("nature"):
        ff.accuracy_over_training(synthetic(**SMALL), ax=outside)
    assert {text.get_fontsize() for text in outside.get_xticklabels()} == {5.5}
    assert (outside.xaxis.label.get_fontsize(), outside.yaxis.label.get_fontsize()) == (7, 7)
    assert not outside.spines["top"].get_visible()


def test_unknown_styles_and_widths_are_refused() -> None:
    with pytest.raises(InputError, match=r"no style is called 'natur' \(near: nature\); there are screen"):
        ff.size("natur")
    with pytest.raises(InputError, match="no style is called 'cvpr'"), ff.style("cvpr"):
        pass
    with pytest.raises(InputError, match="width='page' is neither 'text' nor 'column'"):
        ff.size("nature", "page")
    with pytest.raises(InputError, match="aspect=0 is not positive; give the height as a share of the width"):
        ff.size("nature", aspect=0)


def test_a_figure_of_its_own_is_left_to_pyplot() -> None:
    ax = ff.accuracy_over_training(synthetic(**SMALL))
    assert plt.get_fignums() == [ax.figure.number]
    plt.close(ax.figure)
    with pytest.raises(InputError):
        ff.accuracy_over_training(synthetic(**SMALL), steps=(900, 1000))
    assert plt.get_fignums() == []
