import numpy as np
import pytest

from fadiag.figures import FIGURES, find
from fadiag.figures.captions import small_print
from fadiag.results import by_condition
from tests.results.synthetic_results import synthetic


def noisy(results, stream, name, values):
    """Return the results with the last step of a variable at every layer set, one value a run."""
    dataset = results[stream].to_dataset().copy(deep=True)
    dataset[name][{"step": -1}] = np.reshape(values, (-1, *(1,) * (dataset[name].ndim - 2)))
    results[stream] = dataset
    return results


def test_rank_says_below() -> None:
    results = noisy(
        synthetic(("bp", "fa")), "probe", "error_participation_ratio_raw", [30, 31, 32, 20, 22, 24]
    )
    caption = find("rank").caption(results)
    # Differences -10, -9, -8: mean -9, half width 4.3027 / sqrt(3).
    assert "at fc3, last step: FA is below BP (FA − BP = −9.00 [−11.5, −6.52]" in caption
    assert "95 % t interval over 3 paired seeds" in caption


def test_rank_says_above() -> None:
    results = noisy(
        synthetic(("bp", "fa")), "probe", "error_participation_ratio_raw", [20, 22, 24, 30, 31, 32]
    )
    assert "FA is above BP (FA − BP = 9.00 [6.52, 11.5]" in find("rank").caption(results)


def test_rank_says_that_there_is_no_detectable_difference() -> None:
    results = noisy(
        synthetic(("bp", "fa")), "probe", "error_participation_ratio_raw", [30, 31, 32, 20, 40, 31]
    )
    assert "no detectable difference between FA and BP" in find("rank").caption(results)
    assert "includes 0" in find("rank").caption(results)


def test_one_seed_is_not_a_finding() -> None:
    assert "one seed cannot show whether FA differs from BP" in find("rank").caption(synthetic(seeds=(0,)))


def test_rank_counts_runs_beyond_their_gate_null_of_fa_and_bp_at_the_end_and_at_step_0() -> None:
    results = synthetic(("bp", "fa"))
    words = "beyond the central 95 % of their gate null (error participation ratio raw): "
    bp = "BP 0 below and 0 above of 3, 0 below and 0 above of 3 at step 0"
    told = f"{words}FA 0 below and 0 above of 3, 0 below and 0 above of 3 at step 0; {bp}"
    assert told in find("rank").caption(results)
    results = noisy(results, "probe", "error_participation_ratio_raw_gate_null_high", [99, 99, 99, 1, 99, 99])
    assert f"{words}FA 0 below and 1 above of 3, 0 below" in find("rank").caption(results)
    results = noisy(results, "probe", "error_participation_ratio_raw_gate_null_low", [0, 0, 98, 0, 98, 98])
    caption = find("rank").caption(results)
    assert f"{words}FA 2 below and 1 above of 3, 0 below" in caption
    assert "BP 1 below and 0 above of 3, 0 below" in caption
    assert "gate null" not in find("rank").caption(synthetic(("bp", "fa"), nulls=False))


def test_accuracy_is_told_in_per_cent() -> None:
    results = noisy(synthetic(("bp", "fa")), "log", "test_accuracy", [0.97, 0.96, 0.95, 0.90, 0.91, 0.92])
    assert "FA is below BP (FA − BP = −5.00 points [−9.97, −0.0317]" in find("accuracy").caption(results)


def test_accuracy_without_bp_tells_each_condition() -> None:
    caption = find("accuracy").caption(synthetic(("fa", "my rule")))
    assert "FA 90.5 % [" in caption
    assert "my rule 90.5 % [" in caption


@pytest.mark.parametrize("name", ["alignment", "overlap"])
def test_without_draws_chance_is_not_known(name: str) -> None:
    assert "chance" in find(name).caption(synthetic(nulls=False))
    assert "of 3 seeds" not in find(name).caption(synthetic(nulls=False))
    assert "of 3 seeds" in find(name).caption(synthetic())


def test_overlap_counts_seeds_above_chance() -> None:
    results = noisy(synthetic(("bp", "fa")), "probe", "error_overlap", [1, 1, 1, 0.75, 0.65, 0.72])
    assert "2 of 3 seeds are above the central 95 % of redrawn feedback" in find("overlap").caption(results)


@pytest.mark.parametrize("rounding", [-1e-8, 1e-8])
def test_what_equals_its_null_up_to_rounding_is_not_above_chance(rounding) -> None:
    # As of one layer, whose error does not come through B: observed and redrawn are one number.
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    rank = "error_participation_ratio_raw"
    for name in ("error_overlap", "error_cosine"):
        probe[f"{name}_null_high"] = probe[name] * (1 - rounding)
    for end in ("low", "high"):
        probe[f"{rank}_gate_null_{end}"] = probe[rank] * (1 - rounding)
    results["probe"] = probe
    assert "0 of 3 seeds are above" in find("overlap").caption(results)
    assert "at fc3 (above chance in 0 of 3 seeds)" in find("alignment").caption(results)
    assert "FA 0 below and 0 above of 3" in find("rank").caption(results)


def test_no_run_with_a_value_is_not_one_seed() -> None:
    results = synthetic(("fa",))
    state = results["state"].to_dataset()
    results["state"] = state.where(state["layer"] != "out")
    assert "FA has cos(W, B) = no value at out (chance level unknown)" in find("alignment").caption(results)


@pytest.mark.parametrize("unused", [["fc1", "fc2", "fc3", "out", "aux"], ["fc1", "fc2", "fc3", "aux", "out"]])
def test_layers_of_the_probe_alone_and_of_the_weights_alone_stand_in_forward_order(unused) -> None:
    results = synthetic(("bp", "fa"))
    probe, state = (results[stream].to_dataset() for stream in ("probe", "state"))
    called_twice = ["fc1", "fc1@1", "fc2", "fc3", "out"]
    results["probe"] = probe.isel(layer=[0, 0, 1, 2, 3]).assign_coords(layer=called_twice)
    results["state"] = state.isel(layer=[0, 1, 2, 3, 3]).assign_coords(layer=unused)
    figure = find("alignment")
    assert figure.numbers(results)["layer"].values.tolist() == ["fc1", "fc1@1", *unused[1:]]
    # The head that no pass went through is neither the output layer nor the last hidden one.
    told = figure.caption(synthetic(("bp", "fa")))
    assert "at out (above chance" in told
    assert figure.caption(results) == told
    assert len([ax for ax in figure.draw(results).axes if ax.get_title()]) == 6


def test_remedies_without_remedies_says_so() -> None:
    assert "both with and without a remedy, so nothing is compared" in find("remedies").caption(
        synthetic(("bp", "fa"))
    )


def test_remedies_name_a_rank_without_a_finding() -> None:
    one_seed = find("remedies").caption(synthetic(("fa", "fa+bn"), seeds=(0,)))
    assert "FA + BN: rank unclear from one seed (" in one_seed
    both = noisy(
        synthetic(("fa", "fa+bn")), "probe", "error_participation_ratio_raw", [30, 31, 32, 20, 40, 31]
    )
    assert "FA + BN: no detectable difference in rank (" in find("remedies").caption(both)


@pytest.mark.parametrize("conditions", [("bp",), ("fa",), ("my rule", "other"), ("bp", "frozen")])
@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_any_set_of_conditions_has_a_caption_without_nan(figure, conditions) -> None:
    caption = figure.caption(synthetic(conditions))
    assert caption.endswith(".")
    assert "nan" not in caption


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_a_run_that_ended_in_nan_is_not_hidden(figure) -> None:
    results = synthetic(("bp", "fa", "fa+bn"))
    for stream in ("probe", "log", "state"):
        dataset = results[stream].to_dataset().copy(deep=True)
        for name in dataset.data_vars:
            dataset[name][{"run": 4, "step": slice(3, None)}] = np.nan
        results[stream] = dataset
    caption = figure.caption(results)
    assert "2 paired seeds" in caption or "of 2 seeds" in caption
    figure.draw(results)


def test_rank_tells_the_metric_and_layer_that_the_study_declared() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    probe["error_participation_ratio_centered"] = probe["error_participation_ratio_raw"] * 0 + 1
    declared = {"primary_metric": ("run", ["error_participation_ratio_centered"] * 6)}
    results["probe"] = probe.assign_coords(declared | {"primary_layer": ("run", ["fc2"] * 6)})
    caption = find("rank").caption(results)
    assert caption.startswith(
        "Participation ratio centered of the error at fc2, last step, the declared primary metric: "
    )
    assert "no detectable difference" in caption


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("error_effective_rank_raw", "Effective rank raw of the error at fc3, last step"),
        ("error_effective_rank_centered", "Effective rank centered of the error at fc3, last step"),
        (
            "error_participation_ratio_raw",
            "null (error participation ratio raw): FA 0 below and 0 above of 3",
        ),
        ("modulator_effective_rank_raw", "Effective rank raw of the modulator at fc3, last step"),
    ],
)
def test_the_gates_are_told_of_the_rank_that_is_told(declared, told) -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    for name in ("error_participation_ratio", "error_effective_rank"):
        probe[f"{name}_centered"] = probe[f"{name}_raw"]
    for end in ("low", "high"):
        probe[f"error_effective_rank_centered_gate_null_{end}"] = probe["error_effective_rank_raw"] * 0 + 1000
    results["probe"] = probe.assign_coords(primary_metric=("run", [declared] * 6))
    caption = find("rank").caption(results)
    assert told in caption
    if declared == "error_effective_rank_centered":
        assert "gate null (error effective rank centered): FA 3 below and 0 above of 3" in caption
    elif declared != "error_participation_ratio_raw":
        assert "gate null" not in caption


def test_an_accuracy_logged_in_per_cent_is_told_alike() -> None:
    results = synthetic(("bp", "fa"))
    log = results["log"].to_dataset()
    results["log"] = log.assign(test_accuracy=log["test_accuracy"] * 100)
    assert find("accuracy").caption(results) == find("accuracy").caption(synthetic(("bp", "fa")))


def test_small_print_says_where_n_is_not_known() -> None:
    told = by_condition(synthetic(("bp", "fa")), "error_cosine")
    assert small_print(told).startswith("N = 256 samples; probe 'test'; norms in eval mode")
    del told.attrs["samples"]
    assert small_print(told).startswith("N was not recorded; probe 'test'")
