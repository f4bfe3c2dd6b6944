"""Whatever results hold, figures of what is recorded on request and of colors are legible, or say why not."""

import pytest

from fadiag import figures as ff
from fadiag.results.roles import roles
from tests.figures.drawing import assert_apart, assert_inside, axes, draw
from tests.figures.on_request import kept
from tests.figures.test_bad_input import CASES, only
from tests.results.synthetic_results import CONDITIONS, SMALL, synthetic


def heat(results, **options):
    """Draw the heat map of the last condition."""
    names = roles(results).conditions
    return ff.layer_step_heatmap(results, condition=names[-1] if names else None, **options)


FUNCTIONS = (ff.spectrum, ff.two_by_two, ff.accuracy_against_rank, heat)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_function_is_legible(function, case) -> None:
    ax = draw(function, kept(CASES[case]()))
    assert_inside(ax.figure)
    assert_apart(ax.figure)
    assert ff.caption(ax).endswith(".")
    assert "nan" not in ff.caption(ax).split()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_missing_is_a_panel_with_a_reason(function) -> None:
    results = synthetic(**SMALL)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset()[[]]
    ax = draw(function, results)
    (text,) = ax.texts
    assert text.get_text().startswith("Not drawn:")
    assert "Not drawn: the results hold no" in ff.caption(ax)
    assert_inside(ax.figure)


@pytest.mark.parametrize("style", ["nature", "neurips", "slides"])
@pytest.mark.parametrize("function", [*FUNCTIONS, ff.update_chain], ids=lambda f: f.__name__)
def test_a_column_of_every_style_holds_it(function, style) -> None:
    with ff.style(style):
        ax = function(kept(), ax=axes(*ff.size(style, "column", aspect=0.8)))
        assert_inside(ax.figure)
        assert_apart(ax.figure)


@pytest.mark.parametrize("figure", ff.ON_REQUEST, ids=lambda f: f.name)
def test_figures_on_request_are_drawn_where_results_hold_them(figure) -> None:
    assert (figure in ff.drawable(kept())) is not figure.by_name
    assert figure not in ff.drawable(synthetic())
    drawn = figure.draw(kept())
    assert_inside(drawn)
    assert_apart(drawn)
    assert len(ff.numbers(drawn)) > 30
    assert "Not drawn" not in ff.caption(drawn)
    assert not figure.missing(kept())
    assert "Not drawn" in figure.caption(only(synthetic(), run=slice(0, 0)))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_control_characters_reach_no_picture_and_no_sentence(function) -> None:
    results = kept(synthetic(("bp", "fa\x1b[2J\x00\u202egnp"), layers=("fc\x1b1", "out\u2066")))
    ax = draw(function, results)
    said = ff.svg(ax.figure) + ff.caption(ax) + ff.small_print(ax)
    assert not set(said) & set("\x1b\x00\u202e\u2066")


@pytest.mark.parametrize("function", FUNCTIONS[:3], ids=lambda f: f.__name__)
def test_every_condition_is_in_the_caption(function) -> None:
    caption = ff.caption(draw(function, kept()))
    for condition in CONDITIONS:
        assert f" {condition} " in caption
