"""Accuracy against rank: a point for each run, and the correlation over them."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from fadiag import figures as ff
from fadiag.errors import InputError
from tests.figures.drawing import draw
from tests.results.synthetic_results import CONDITIONS, synthetic

RANK = "error_effective_rank_raw"


def shuffled(results):
    """Return results whose final ranks have another order than their accuracies, with ties."""
    probe = results["probe"].to_dataset()
    ranks = np.random.default_rng(0).integers(5, 12, probe.sizes["run"]).astype(float)
    probe[RANK][:, :, -1] = ranks[:, None]
    results["probe"] = probe
    return results, ranks


def test_each_run_is_a_point() -> None:
    results = synthetic()
    ax = draw(ff.accuracy_against_rank, results)
    table = ff.numbers(ax)
    probe, log = results["probe"].to_dataset(), results["log"].to_dataset()
    want = {
        (c, s): (x, 100 * y)
        for c, s, x, y in zip(
            probe["condition"].values,
            probe["seed"].values,
            probe[RANK].sel(layer="fc3").values[:, -1],
            log["test_accuracy"].values[:, -1],
            strict=True,
        )
    }
    found = {(row.condition, row.seed): (row.x, row.value) for row in table.itertuples()}
    assert found.keys() == want.keys()
    for key, point in want.items():
        assert found[key] == pytest.approx(point)
    drawn = np.concatenate([np.transpose(line.get_data()) for line in ax.lines])
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(want.values()))
    assert ax.get_xscale() == "log"
    assert len({line.get_marker() for line in ax.lines}) == len(CONDITIONS)


def test_the_correlation_is_spearmans_with_ties_and_no_p() -> None:
    results, ranks = shuffled(synthetic())
    accuracy = results["log"]["test_accuracy"].values[:, -1]
    over_runs = spearmanr(ranks, accuracy).statistic
    means = [each.reshape(6, 3).mean(axis=1) for each in (ranks, accuracy)]
    caption = ff.caption(draw(ff.accuracy_against_rank, results))
    between = spearmanr(*means).statistic
    words = [f"{value:#.3g}".replace("-", "−") for value in (over_runs, between)]
    assert f"Spearman's ρ = {words[0]} over 18 runs of 6 conditions" in caption
    assert f"and {words[1]} between the means of the conditions." in caption
    assert caption.endswith(
        "No p-value: runs of one condition are alike, and the conditions were chosen, not drawn."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conditions": ("bp",)}, "no correlation over 3 runs of 1 condition (fewer than 4 runs)"),
        (
            {"conditions": ("fa",), "seeds": (0,)},
            "no correlation over 1 run of 1 condition (fewer than 4 runs)",
        ),
        (
            {"spread": 0.0, "conditions": ("fa+x", "fa+y")},
            "no correlation over 6 runs of 2 conditions (one of the two does not vary)",
        ),
    ],
)
def test_without_enough_points_there_is_no_correlation(options, words) -> None:
    assert words in ff.caption(draw(ff.accuracy_against_rank, synthetic(**options)))


def test_a_condition_is_marked_even_if_it_is_not_drawn() -> None:
    results = synthetic(spread=0.0)
    ax = draw(ff.accuracy_against_rank, results, conditions=["bp", "frozen"], mark="fa")
    mark = ff.numbers(ax).query("kind == 'mark'")
    assert mark["x"].item() == pytest.approx(65)
    assert "The line marks the mean rank of fa, 65.0." in ff.caption(ax)
    assert set(ff.numbers(ax).query("kind == 'seed'")["condition"]) == {"bp", "frozen"}
    with pytest.raises(InputError, match=r"mark='fa\+bm' is no condition of the results \(near: fa\+bn"):
        draw(ff.accuracy_against_rank, results, mark="fa+bm")


def test_runs_without_one_of_the_two_are_left_out() -> None:
    results = synthetic(("bp", "fa"))
    log = results["log"].to_dataset()
    log["test_accuracy"][0, -1] = np.nan
    results["log"] = log
    ax = draw(ff.accuracy_against_rank, results)
    assert len(ff.numbers(ax)) == 5
    assert "5 runs of 2 conditions" in ff.caption(ax)


def test_axes_and_caption_name_both_steps_where_they_differ() -> None:
    results = shuffled(synthetic())[0]
    ax = draw(ff.accuracy_against_rank, results, step=50)
    assert ax.get_xlabel().endswith("\nfc3, step 50")
    assert ax.get_ylabel() == "test accuracy (%)\nat step 400"
    assert "The rank is that of step 50, the test accuracy that of step 400." in ff.small_print(ax)
    caption = ff.caption(ax)
    assert caption.startswith(
        "Test accuracy at step 400 against the effective rank of the error, raw, of step 50"
    )
    assert "ρ with the test accuracy at step 400 = " in caption
    plain = draw(ff.accuracy_against_rank, results)
    assert (plain.get_ylabel(), plain.get_xlabel()[-3:]) == ("test accuracy (%)", "fc3")
    assert "step 400" not in ff.small_print(plain)
