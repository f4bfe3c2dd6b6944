"""Whatever results hold, a figure is legible, or says why not."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.figures import FIGURES
from tests.figures.drawing import FUNCTIONS, assert_apart, assert_inside, axes, draw
from tests.results.synthetic_results import SMALL, synthetic

LONG = "a very long name of a condition " * 7
TEN = ("bp", *(f"{LONG[:200]}{i}" for i in range(9)))
SCRIPTS = ("bp", "反馈对齐", "обратная связь", "تغذية", "α→β ≤ ½", "\U0001f9e0")


def only(results, **places):
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset()
        results[stream] = dataset.isel({dim: at for dim, at in places.items() if dim in dataset.dims})
    return results


def gaps(results):
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset()
        odd = dataset["step"] % 100 == 50
        seeds = dataset["seed"] == 1
        results[stream] = dataset.where(~(odd & seeds))
    return results


CASES = {
    "one run": lambda: synthetic(("fa",), seeds=(0,)),
    "one seed": lambda: synthetic(seeds=(0,)),
    "two seeds": lambda: synthetic(**SMALL, seeds=(0, 1)),
    "one step": lambda: only(synthetic(), step=[-1]),
    "gaps": lambda: gaps(synthetic(**SMALL)),
    "500 layers": lambda: synthetic(("bp", "fa"), layers=tuple(f"block{i}.conv1" for i in range(500))),
    "long layers": lambda: synthetic(
        ("bp", "fa"), layers=tuple(f"model.encoder.layers.{i}.self_attention.{'x' * 170}" for i in range(4))
    ),
    "ten long conditions": lambda: synthetic(TEN, layers=("fc1", "out")),
    "scripts": lambda: synthetic(SCRIPTS, layers=("слой", "层", "out")),
    "nothing known": lambda: only(synthetic(nulls=False), run=slice(0, 0)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_function_is_legible(function, case) -> None:
    ax = draw(function, CASES[case]())
    assert_inside(ax.figure)
    assert_apart(ax.figure)
    assert ff.caption(ax).endswith(".")
    assert "nan" not in ff.caption(ax).split()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_every_figure_of_the_catalog_is_legible(figure, case) -> None:
    canvas = figure.draw(CASES[case]())
    assert_inside(canvas)
    assert_apart(canvas)


@pytest.mark.parametrize("style", ["nature", "neurips", "slides"])
def test_long_names_fit_every_style(style) -> None:
    with ff.style(style):
        for width in ("column", "text"):
            ax = axes(*ff.size(style, width))
            ff.rank_by_depth(CASES["ten long conditions"](), ax=ax)
            assert_inside(ax.figure)
            (legend,) = ax.figure.legends
            assert len({text.get_text() for text in legend.get_texts()}) == 10
            whole = {"".join(name.split()) for name in TEN}
            shown = ["".join(text.get_text().split()) for text in legend.get_texts()]
            assert all("…" in text or text in whole for text in shown)
            assert TEN[5] in ff.caption(ax)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_missing_is_a_panel_with_a_reason(function) -> None:
    results = synthetic(**SMALL)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset()[[]]
    ax = draw(function, results)
    (text,) = ax.texts
    assert text.get_text().startswith("Not drawn:")
    assert "Not drawn: the results hold no" in ff.caption(ax)
    assert not ax.lines
    assert_inside(ax.figure)


def test_one_seed_has_no_interval_and_says_so() -> None:
    ax = draw(ff.accuracy_over_training, synthetic(**SMALL, seeds=(0,)))
    assert not ax.collections
    assert "1 seed per condition, every seed is drawn; no interval from one seed." in ff.small_print(ax)
    assert "One seed has no interval." in ff.caption(ax)
    assert ff.numbers(ax)["low"].isna().all()


def test_a_single_step_is_a_dot_with_a_bar() -> None:
    ax = draw(ff.accuracy_over_training, only(synthetic(**SMALL), step=[-1]))
    assert list(ax.get_xticks()) == [400]
    assert sum(len(line.get_xdata()) == 2 for line in ax.lines) == 2


def test_control_characters_reach_no_picture_and_no_sentence() -> None:
    evil = "fa\x1b[2J\x00\u202egnp"
    results = synthetic(("bp", evil), layers=("fc\x1b1", "out\u2066"))
    figure = Figure(layout="constrained")
    axs = figure.subplots(3, 3).flat
    for function, ax in zip(FUNCTIONS, axs, strict=True):
        function(results, ax=ax)
    said = ff.svg(figure) + ff.caption(figure) + ff.small_print(figure)
    assert not set(said) & set("\x1b\x00\u202e\u2066")
    assert "fa\\x1b[2J\\x00\\u202egnp" in ff.caption(figure)
    assert "fc\\x1b1" in said


def test_letters_without_a_font_are_spelled_and_others_drawn() -> None:
    ax = draw(ff.conditions, synthetic(("bp", "обратная", "\U0001f9e0x")))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert "обратная" in names
    assert names[2] in ("[brain]x", "\U0001f9e0x")  # as the fonts of this machine allow
    assert ax.figure.draw_without_rendering() is None  # warnings are errors: no glyph is missing


def test_names_are_no_mathematics() -> None:
    rule = "$\\lr$=0.1"
    ax = draw(ff.conditions, synthetic(("bp", rule)))
    ax.figure.draw_without_rendering()
    assert ">$\\lr$=0.1</text>" in ff.svg(ax)


def test_intervals_stay_within_what_is_possible() -> None:
    results = synthetic(**SMALL)
    probe = results["probe"].to_dataset()
    rank = np.array([1.1, 1.2, 3.0, 250.0, 254.0, 255.9])[:, None, None]
    probe["error_effective_rank_raw"] = probe["error_effective_rank_raw"] * 0 + rank
    probe["error_cosine"] = (
        probe["error_cosine"] * 0 + np.array([0.9, 0.95, 1.0, -1, -0.9, -0.8])[:, None, None]
    )
    results["probe"] = probe
    for function, low, high in ((ff.rank_by_depth, 1, 256), (ff.credit_cosine, -1, 1)):
        table = ff.numbers(draw(function, results))
        means = table[table["kind"] == "mean"]
        assert means["low"].min() == low
        assert means["high"].max() == high
    table = ff.numbers(draw(ff.credit_cosine, results, degrees=True))
    assert table[table["kind"] == "mean"]["low"].min() == 0
    assert table[table["kind"] == "mean"]["high"].max() <= 180
    log = results["log"].to_dataset()
    accuracy = np.array([0.95, 0.97, 1.0, 0.0, 0.01, 0.05])[:, None]
    results["log"] = log.assign(test_accuracy=log["test_accuracy"] * 0 + accuracy)
    means = ff.numbers(draw(ff.accuracy_over_training, results)).query("kind == 'mean'")
    assert (means["low"].min(), means["high"].max()) == (0, 100)


def test_ranks_are_on_a_logarithmic_axis_with_plain_numbers() -> None:
    ax = draw(ff.rank_by_depth)
    assert ax.get_yscale() == "log"
    ax.figure.draw_without_rendering()
    assert {"50", "100"} <= {text.get_text() for text in ax.get_yticklabels()}


def test_the_bound_is_drawn_where_the_results_hold_it() -> None:
    results = synthetic(**SMALL)
    results.attrs["k"] = "classes - 1"
    probe = results["probe"].to_dataset()
    probe["error_overlap"].attrs["k"] = 9
    results["probe"] = probe
    ax = draw(ff.rank_by_depth, results, signal="modulator")
    assert not ax.texts  # a text would lie over the data
    assert "classes − 1 = 9" in [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert "classes − 1 = 9 bounds the credit's rank" in ff.small_print(ax)
    assert 9.0 in ff.numbers(ax).query("kind == 'bound'")["value"].values
    without = draw(ff.rank_by_depth, synthetic(**SMALL), signal="modulator").figure.legends[0]
    assert [text.get_text() for text in without.get_texts()] == ["bp", "fa"]


def test_a_bound_far_below_the_ranks_does_not_stretch_the_axis() -> None:
    results = synthetic(("bp", "fa"))
    results.attrs["k"] = "classes - 1"
    results["probe/error_overlap"].attrs["k"] = 9
    inner = ff.rank_by_depth(results, layers=["fc1", "fc2"], metric="participation_ratio", ax=axes())
    assert inner.get_ylim()[0] > 9
    assert ff.rank_by_depth(results, metric="participation_ratio", ax=axes()).get_ylim()[0] < 9
