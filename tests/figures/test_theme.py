"""A theme holds inside its block, in its own thread, and changes nothing but looks."""

import threading

import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.errors import FigureWarning, InputError
from tests.figures.drawing import draw
from tests.results.synthetic_results import SMALL, synthetic


def entries(ax):
    (legend,) = ax.figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_labels_colors_and_order() -> None:
    results = synthetic(**SMALL, spread=0.1)
    with ff.theme(labels={"fa": "Feedback Alignment"}, colors={"fa": "#ff00aa"}, order=["fa", "bp"]):
        ax = draw(ff.accuracy_over_training, results)
    assert entries(ax) == ["Feedback Alignment", "bp"]
    assert "#ff00aa" in {line.get_color() for line in ax.lines}
    assert "Feedback Alignment − bp = −" in ff.caption(ax)
    assert entries(draw(ff.accuracy_over_training, results)) == ["bp", "fa"]


def test_a_theme_is_used_again_and_nested_and_left_after_an_error() -> None:
    mine = ff.theme(labels={"fa": "A"})
    for _ in range(2):
        with mine, ff.theme(labels={"bp": "B"}):
            assert (ff.label("fa"), ff.label("bp")) == ("A", "B")
    with pytest.raises(ZeroDivisionError), mine:
        raise ZeroDivisionError
    assert ff.label("fa") == "fa"


def test_a_theme_holds_in_its_own_thread_only() -> None:
    seen = []
    with ff.theme(labels={"fa": "A"}):
        thread = threading.Thread(target=lambda: seen.append(ff.label("fa")))
        thread.start()
        thread.join()
    assert seen == ["fa"]


def test_wrong_themes_are_refused() -> None:
    with pytest.raises(InputError, match=r"the color 'redd' of 'fa' is no color of matplotlib"):
        ff.theme(colors={"fa": "redd"})
    with pytest.raises(InputError, match="order='bp' is one text; give a list of conditions"):
        ff.theme(order="bp")


def test_a_misspelled_condition_is_noticed_and_that_of_other_results_is_not() -> None:
    results = synthetic(("bp", "fa+bn", "fa+muon+bn"))
    for wrong in ({"labels": {"fa+bm": "x"}}, {"colors": {"FA_BN": "red"}}, {"order": ["bp", "fa bn"]}):
        with ff.theme(**wrong), pytest.warns(FigureWarning, match="did you mean 'fa\\+bn'"):
            draw(ff.accuracy_over_training, results)
    right = ff.theme(
        labels={"fa+bn": "norm", "fa+muon+bn": "both", "fa+muon": "Muon", "frozen": "f", "dfa": "d"},
        order=["width-64", "bp"],
    )
    with right:  # a warning would be an error
        draw(ff.accuracy_over_training, results)
        draw(ff.accuracy_over_training, synthetic(("bp", "width-65")))


def test_panels_of_one_figure_share_one_legend() -> None:
    figure = Figure(layout="constrained")
    axs = figure.subplots(1, 2)
    results = synthetic(layers=("fc1", "out"))
    ff.accuracy_over_training(results, conditions=["bp", "fa"], ax=axs[0])
    ff.accuracy_over_training(results, conditions=["fa", "frozen"], ax=axs[1])
    assert entries(axs[0]) == ["bp", "fa", "frozen"]
