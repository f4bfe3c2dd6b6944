"""The table of weights by backward matrices, and the chain from gradient to update, by hand."""

import numpy as np
import pytest

from fadiag import figures as ff
from fadiag.errors import InputError
from tests.figures.drawing import draw
from tests.figures.on_request import LESS, kept
from tests.results.synthetic_results import RANK, synthetic

METRIC = {"metric": "participation_ratio"}


def cells(ax):
    table = ff.numbers(ax).query("kind == 'mean'")
    backward = table["variable"].str.split(", ").str[1]
    return {(c, b): v for c, b, v in zip(table["condition"], backward, table["value"], strict=True)}


def test_the_four_cells_come_from_the_right_signals() -> None:
    ax = draw(ff.two_by_two, kept(synthetic(("bp", "fa"), spread=0.0)), **METRIC)
    assert cells(ax) == pytest.approx(
        {
            ("bp", "Wᵀ"): RANK["bp"],  # its own error
            ("bp", "B"): RANK["bp"] + LESS["b"],  # error_fa
            ("fa", "Wᵀ"): RANK["fa"] + LESS["wt"],  # error_bp
            ("fa", "B"): RANK["fa"],  # its own error
        }
    )
    assert [text.get_text() for text in ax.get_xticklabels()] == ["exact, Wᵀ", "feedback, B"]


def test_a_rule_whose_error_is_exact_has_the_other_passs_error_under_b() -> None:
    results = kept(synthetic(("bp", "fa"), spread=0.0))
    stream = results["probe"].to_dataset()
    name = "error_participation_ratio_raw"
    stream["error_bp_participation_ratio_raw"] = stream[name]  # as of frozen layers
    stream["error_fa_participation_ratio_raw"] = stream[name] + 2
    results["probe"] = stream
    found = cells(draw(ff.two_by_two, results, **METRIC))
    assert found["fa", "Wᵀ"] == pytest.approx(RANK["fa"])
    assert found["fa", "B"] == pytest.approx(RANK["fa"] + 2)


def test_the_caption_gives_cells_and_both_effects() -> None:
    caption = ff.caption(draw(ff.two_by_two, kept(synthetic(("bp", "fa"), spread=0.0)), **METRIC))
    equal = "(equal in 3 seeds)"
    assert f"under Wᵀ bp 30.0 {equal}, fa 18.0 {equal}; under B bp 28.0 {equal}, fa 15.0" in caption
    assert f"B − Wᵀ on the same weights: bp −2.00 {equal}, fa −3.00 {equal}" in caption
    assert f"Weights of fa − weights of bp: under Wᵀ −12.0 {equal}, under B −13.0 {equal}" in caption


def test_the_gate_null_is_beside_the_own_error_only() -> None:
    results = kept(synthetic(("bp", "fa"), spread=0.0))
    nulls = ff.numbers(draw(ff.two_by_two, results, **METRIC)).query("kind == 'null'")
    assert dict(zip(nulls["condition"], nulls["low"], strict=True)) == pytest.approx(
        {name: 0.9 * RANK[name] for name in ("bp", "fa")}
    )
    ax = draw(ff.two_by_two, results, **METRIC)
    assert [bar.get_x() + bar.get_width() / 2 < 0.5 for bar in ax.patches] == [True, False]
    assert not draw(ff.two_by_two, results, **METRIC, null=None).patches
    ax = draw(ff.two_by_two, kept(synthetic(("bp", "fa"), nulls=False)))
    assert "No gate null was recorded" in ff.small_print(ax)


def test_roles_and_labels_decide_not_names() -> None:
    results = kept(synthetic(("bp", "fa"), spread=0.0))
    probe = results["probe"].to_dataset()
    names = np.array(["mine" if c == "bp" else "bp" for c in probe["condition"].values], object)
    for stream in ("probe", "log", "state"):
        results[stream] = results[stream].to_dataset().assign_coords(condition=("run", names))
    found = cells(draw(ff.two_by_two, results, **METRIC))
    assert found["mine", "B"] == pytest.approx(RANK["bp"] + LESS["b"])
    assert found["bp", "Wᵀ"] == pytest.approx(RANK["fa"] + LESS["wt"])


def test_a_cell_that_was_not_recorded_is_left_out_and_named() -> None:
    results = kept(synthetic(("bp", "fa")))
    results["probe"] = results["probe"].to_dataset().drop_vars("error_fa_participation_ratio_raw")
    ax = draw(ff.two_by_two, results, **METRIC)
    assert ("bp", "B") not in cells(ax)
    assert len(cells(ax)) == 3
    assert "Not recorded: error_fa_participation_ratio_raw of bp." in ff.small_print(ax)
    assert "under B bp no value" in ff.caption(ax)
    with pytest.raises(
        InputError, match=r"no pass under the feedback 'mine'.* error_mine_participation_ratio_raw is"
    ):
        draw(ff.two_by_two, kept(), **METRIC, feedback="mine")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match="no signal 'update' has an exact twin"):
        draw(ff.two_by_two, kept(), signal="update")
    with pytest.raises(InputError, match=r"has no null 'gates' \(near: gate\); null=None draws none"):
        draw(ff.two_by_two, kept(), null="gates")


def test_the_chain_is_at_one_step_with_an_update() -> None:
    ax = draw(ff.update_chain, synthetic(("bp", "fa+muon"), spread=0.0))
    table = ff.numbers(ax).query("kind == 'mean'")
    assert set(table["step"]) == {350}  # the last state has no update
    rise = (1 - np.exp(-3.5)) / (1 - np.exp(-4))
    want = {
        ("bp", "gradient"): 1 + 7 * rise,  # 6 + 2 at the third layer, from 1
        ("bp", "momentum"): 1 + 10 * rise,
        ("bp", "update"): 1 + 13 * rise,
        ("fa+muon", "update"): 1 + 63 * rise,
    }
    found = {
        (row.condition, row.variable.partition("_effective")[0]): row.value for row in table.itertuples()
    }
    assert {key: found[key] for key in want} == pytest.approx(want)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["gradient", "momentum", "applied update"]
    caption = ff.caption(ax)
    assert "a tautology and no finding" in caption
    assert "momentum bp 10.9 (equal in 3 seeds), fa+muon 10.9" in caption
    assert "Not recorded: orthogonalized." in ff.small_print(ax)


def test_an_own_metric_of_the_orthogonalized_step_is_drawn() -> None:
    results = synthetic(("bp", "fa+muon"))
    state = results["state"].to_dataset()
    state["orthogonalized_effective_rank_raw"] = state["update_effective_rank_raw"] + 1
    results["state"] = state
    ax = draw(ff.update_chain, results)
    assert [text.get_text() for text in ax.get_xticklabels()][2] == "orthogonalized"
    assert "Not recorded" not in ff.small_print(ax)


def test_ranks_of_zero_are_left_out_and_counted() -> None:
    results = synthetic(("bp", "fa"))
    state = results["state"].to_dataset()
    state["gradient_effective_rank_raw"][state["condition"].values == "fa"] = 0.0
    results["state"] = state
    ax = draw(ff.update_chain, results)
    assert "dead, with rank 0, and left out: 3 of 3 runs of fa" in ff.caption(ax)
    assert ", fa no value; momentum" in ff.caption(ax)
