"""What a figure does depends on the rules of the conditions, never on their names."""

import numpy as np
import pytest

from fadiag import figures as ff
from fadiag.errors import InputError
from tests.figures.drawing import FUNCTIONS, axes, draw
from tests.results.synthetic_results import synthetic

NEW = {"bp": "zz exact", "fa": "bp", "fa+bn": "remedy"}


def renamed(results, names=NEW):
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset()
        conditions = np.array([names[c] for c in dataset["condition"].values], object)
        results[stream] = dataset.assign_coords(condition=("run", conditions))
    return results


def with_rules(results, rules):
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset()
        given = np.array([rules.get(c, "") for c in dataset["condition"].values], object)
        results[stream] = dataset.assign_coords(rule=("run", given))
    return results


def small(conditions=("bp", "fa", "fa+bn"), **options):
    return synthetic(conditions, layers=("fc1", "fc2", "out"), **options)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_renamed_conditions_give_the_same_figure_but_for_labels(function) -> None:
    one, other = draw(function, small()), draw(function, renamed(small()))
    for mine, its in zip(one.lines, other.lines, strict=True):
        np.testing.assert_array_equal(mine.get_ydata(), its.get_ydata())
        for look in ("get_color", "get_linestyle", "get_marker"):
            assert getattr(mine, look)() == getattr(its, look)()
    with ff.theme(labels=NEW):
        assert ff.caption(draw(function, small())) == ff.caption(other)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_condition_is_in_the_caption(function) -> None:
    caption = ff.caption(draw(function))
    for condition in ("fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen"):
        assert f" {condition} " in caption


def test_the_baseline_is_the_condition_with_the_rule_bp() -> None:
    results = small(spread=0.1)
    assert "; remedy − zz exact = −2" in ff.caption(
        draw(ff.accuracy_over_training, renamed(small(spread=0.1)))
    )
    assert "fa − fa+bn = −5" in ff.caption(draw(ff.accuracy_over_training, results, baseline="fa+bn"))


def test_a_baseline_need_not_be_drawn() -> None:
    ax = draw(ff.rank_by_depth, small(spread=0.1), conditions=["fa"])
    assert "fa − bp = −6" in ff.caption(ax)
    assert set(ff.numbers(ax)["condition"].dropna()) == {"fa"}


def test_without_a_baseline_each_condition_has_its_mean() -> None:
    caption = ff.caption(draw(ff.accuracy_over_training, with_rules(small(), {})))
    assert "At the last step (400): bp 97.5 % [96.2, 98.9], fa 90.5 % [" in caption
    ax = draw(ff.rank_gap, with_rules(small(), {}))
    assert "there is no baseline: no condition has the rule 'bp'" in ff.caption(ax)
    assert not ax.lines
    assert ff.caption(draw(ff.rank_gap, with_rules(small(), {}), baseline="bp")).count("fa − bp = ") == 1


def test_of_several_baselines_one_has_to_be_named() -> None:
    results = with_rules(small(), {"bp": "bp", "fa": "bp", "fa+bn": "fa"})
    assert "several conditions have the rule 'bp' (bp, fa)" in ff.caption(draw(ff.rank_gap, results))


def with_exact(results):
    """Return results with the rank of the exact error: 12.4 at the last step in every layer."""
    probe = results["probe"].to_dataset()
    like = probe["error_effective_rank_raw"]
    exact = (xr_zeros(like) + 12 + probe["step"] / 1000).transpose(*like.dims)
    results["probe"] = probe.assign(error_bp_effective_rank_raw=exact)
    return results


def xr_zeros(array):
    return array.copy(data=np.zeros(array.shape))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_one_condition_is_drawn_beside_the_exact_error_of_its_runs(seeds) -> None:
    results = with_exact(small(("fa",), seeds=seeds))
    ax = draw(ff.rank_by_depth, results)
    assert any(np.allclose(line.get_ydata(), 12.4) for line in ax.lines if len(line.get_ydata()) == 3)
    assert set(ff.numbers(ax)["condition"].dropna()) == {"fa", "error_bp, same weights"}
    assert "fa − error_bp, same weights = " in ff.caption(ax)
    gap = draw(ff.rank_gap, results)
    assert not gap.texts
    assert set(ff.numbers(gap)["condition"].dropna()) == {"fa"}
    assert "error_bp" not in ff.caption(draw(ff.rank_by_depth, with_exact(small())))


def test_a_look_stays_with_its_condition() -> None:
    whole, part = (draw(ff.accuracy_over_training, small(), conditions=c) for c in (None, ["fa+bn"]))
    colors = {line.get_color() for line in part.lines}
    assert len(colors) == 1
    assert colors < {line.get_color() for line in whole.lines}


def test_names_that_do_not_exist_are_errors_with_near_names() -> None:
    for options, words in (
        ({"conditions": ["fa", "fa+nb"]}, r"no condition 'fa\+nb' \(near: fa\+bn"),
        ({"baseline": "pb"}, "no condition 'pb' "),
        ({"signal": "eror"}, r"no signal is called 'eror' \(near: error"),
        ({"metric": "efective_rank"}, r"no rank is called 'efective_rank' \(near: effective_rank"),
        ({"layers": ["fc1", "fc9"]}, r"no layer 'fc9' \(near: fc"),
        ({"step": 70}, "step 70 was not recorded; the nearest are 0, 50, 100"),
        ({"stream": "prob"}, r"no stream 'prob' \(near: probe\)"),
        ({"null": "gates"}, r"no null 'gates' \(near: gate\)"),
    ):
        with pytest.raises(InputError, match=words):
            ff.rank_by_depth(small(), ax=axes(), **options)
    for draw_it, words in (
        (lambda: ff.accuracy_over_training(small(), metric="test_acuracy"), "no scalar is called 'test_acur"),
        (
            lambda: ff.rank_over_training(small(), steps=(1000, 2000)),
            "no step from 1000 to 2000 was recorded",
        ),
        (lambda: ff.credit_cosine(small(), signal="activation"), "no signal 'activation' has an exact twin"),
        (lambda: ff.credit_cosine(small(), over="time"), "over='time' is neither 'depth' nor 'training'"),
    ):
        with pytest.raises(InputError, match=words):
            draw_it()
