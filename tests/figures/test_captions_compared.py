"""Captions compare conditions at one step, and on one number of samples."""

import numpy as np
import pytest
import xarray as xr

from fadiag.figures import find
from tests.results.synthetic_results import shorter, synthetic


def test_conditions_are_compared_at_a_step_that_both_have() -> None:
    results = shorter(synthetic(("bp", "fa")), "fa", 3)
    at = "step 100, the last shared step (BP ends at step 400)"
    caption = find("accuracy").caption(results)
    until = results["log/test_accuracy"].sel(step=100).values * 100
    assert caption.startswith(f"Test accuracy at {at}: FA is below BP (FA − BP = ")
    assert f"= {until[3:].mean() - until[:3].mean():.2f}".replace("-", "−") in caption
    assert f"of the error at fc3, {at}: FA is below BP" in find("rank").caption(results)
    assert "FA 0 below and 0 above of 3" in find("rank").caption(results)
    alone = shorter(synthetic(("fa", "my rule")), "fa", 3)
    assert "Test accuracy at step 100, the last shared step (my rule ends at step 400), mean" in find(
        "accuracy"
    ).caption(alone)


def test_runs_that_all_ended_early_are_not_told_of_as_of_the_last_step() -> None:
    results = synthetic(("fa", "fa+bn"))
    for condition, steps in (("fa", 3), ("fa+bn", 3)):
        results = shorter(results, condition, steps)
    until = "step 100 (no later step has a value; the results go up to step 400)"
    assert find("accuracy").caption(results).startswith(f"Test accuracy at {until}, mean")
    assert f"of the error at fc3, {until}, mean" in find("rank").caption(results)
    assert find("overlap").caption(results).startswith(f"At fc3, {until}, FA's error shares")
    remedies = find("remedies").caption(results)
    assert remedies.startswith("Against FA at the last step, unless stated (paired")
    assert remedies.count(f" at {until}") == 2
    small = find("remedies").draw(results).get_supxlabel().replace("\n", " ")
    assert small.startswith(f"At {until}. N = 256")


def test_weights_and_errors_that_end_apart_have_each_their_step() -> None:
    results = synthetic(("fa",))
    assert find("alignment").caption(results).startswith("At the last step FA has cos(W, B)")
    probe, state = (results[stream].to_dataset() for stream in ("probe", "state"))
    results["probe"] = probe.where(probe["step"] <= 100)
    results["state"] = state.where(state["step"] <= 150)
    caption = find("alignment").caption(results)
    told = "(no later step has a value; the results go up to step 400)"
    assert caption.startswith(f"At step 150 {told} FA has cos(W, B) = ")
    assert f"and, at step 100 {told}, cos(error, error_bp) = " in caption


def test_a_stream_that_ends_before_another_has_a_last_step_of_its_own() -> None:
    results = synthetic(("fa", "fa+bn"))
    log = results["log"].to_dataset()
    later = log.assign_coords(step=log["step"] + 5)
    results["log"] = xr.concat([log.isel(step=[0]), later], "step")
    assert find("remedies").caption(results).startswith("Against FA at the last step (paired")


def _with_samples(by_condition=None) -> xr.DataTree:
    """Return results of 64 and 16 samples; told run by run where it is said which conditions have which."""
    results = synthetic()
    probe = results["probe"].to_dataset()
    for array in probe.data_vars.values():
        array.attrs |= {"samples": "64, 16", "samples_coordinate": "kept_samples"}
    if by_condition:
        told = [float(by_condition.get(condition, 64)) for condition in probe["condition"].values]
        probe = probe.assign_coords(kept_samples=("run", told))
    results["probe"] = probe
    return results


def test_conditions_of_one_number_of_samples_are_compared_beside_others() -> None:
    results = _with_samples({"fa+bn": 16, "frozen": np.nan})
    assert "FA − BP" in find("rank").caption(results)
    told = "not compared: runs measured on different numbers of samples (64, 16)"
    remedies = find("remedies").caption(results)
    assert f"FA + BN: rank {told}, accuracy " in remedies
    assert remedies.count(told) == 1
    assert f"fc3, last step: {told}" in find("rank").caption(_with_samples({"fa": 16}))


def test_ranks_of_different_numbers_of_samples_are_not_compared() -> None:
    results = _with_samples()
    told = "not compared: runs measured on different numbers of samples (64, 16)"
    rank, remedies = (find(name).caption(results) for name in ("rank", "remedies"))
    assert f"at fc3, last step: {told}; runs beyond" in rank
    assert "FA 0 below and 0 above of 3" in rank
    assert "FA − BP" not in rank
    assert remedies.count(f"rank {told}, accuracy ") == 3
    assert "not compared" not in find("accuracy").caption(results)


def test_conditions_without_a_step_in_common_are_not_compared() -> None:
    results = synthetic(("bp", "fa"))
    log = results["log"].to_dataset()
    results["log"] = log.where((log["condition"] == "fa") == (log["step"] > 100))
    assert find("accuracy").caption(results) == (
        "Test accuracy at no shared step (BP ends at step 100, FA ends at step 400): "
        "no seed has a value for both FA and BP, so no runs are paired; `fadiag compare` compares "
        "unpaired runs."
    )


def test_remedies_are_compared_pair_by_pair() -> None:
    caption = find("remedies").caption(shorter(synthetic(), "fa+bn", 3))
    first, second = caption.split("FA + BN: ")[1].split("; ")[:2]
    assert first.count("at step 100, the last shared step (FA ends at step 400)") == 2
    assert "at step" not in second


@pytest.mark.parametrize(
    ("name", "variable", "told"),
    [
        (
            "overlap",
            "error_overlap_null_high",
            "3 of 3 seeds are above the central 95 % of redrawn feedback at step 50.",
        ),
        ("alignment", "error_cosine_null_high", "(above chance in 3 of 3 seeds at step 50)"),
        (
            "rank",
            "error_participation_ratio_raw_gate_null_low",
            "FA 0 below and 0 above of 3 at step 50, 0 below and 0 above of 3 at step 0",
        ),
    ],
)
def test_a_null_that_was_drawn_less_often_is_held_against_its_own_step(name, variable, told) -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    probe[variable] = probe[variable].where(probe["step"] <= 50)
    if name != "rank":
        probe[variable] = probe[variable] * 0 - 1
    results["probe"] = probe
    assert told in find(name).caption(results)
