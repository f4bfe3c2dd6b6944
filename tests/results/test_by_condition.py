"""Variables by condition and seed: each run finds its place, and two runs never share one."""

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import InputError
from fadiag.results import by_condition
from tests.results.synthetic_results import ACCURACY, CONDITIONS, STEPS, synthetic


def test_runs_find_their_place_in_any_order() -> None:
    results = synthetic()
    log = results["log"].to_dataset()
    shuffled = xr.DataTree.from_dict(
        {"/log": log.isel(run=np.random.default_rng(1).permutation(log.sizes["run"]))}
    )
    found, whole = by_condition(shuffled, "test_accuracy"), by_condition(results, "test_accuracy")
    xr.testing.assert_equal(found.reindex_like(whole), whole)
    assert found["condition"].values[0] == "bp"  # the baseline comes first
    assert found["condition"].values.tolist() == list(found.attrs["runs_of"])
    for condition in CONDITIONS:
        end = by_condition(shuffled, "test_accuracy").sel({"condition": condition, "seed": 0}).values[-1]
        assert end == pytest.approx(ACCURACY[condition])


def test_a_missing_seed_is_nan() -> None:
    log = synthetic(("bp", "fa"))["log"].to_dataset()
    array = by_condition(xr.DataTree.from_dict({"/log": log.isel(run=slice(0, 5))}), "test_accuracy")
    assert array.sizes == {"condition": 2, "seed": 3, "step": len(STEPS)}
    assert np.isnan(array.sel({"condition": "fa", "seed": 2})).all()


def test_runs_without_meta_stand_for_themselves() -> None:
    log = synthetic(("bp",))["log"].to_dataset().drop_vars(["condition", "rule", "seed"])
    array = by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")
    assert list(array["condition"].values) == ["bp-seed0", "bp-seed1", "bp-seed2"]


def test_two_runs_of_one_condition_and_seed_are_refused() -> None:
    log = synthetic(("bp",), seeds=(0, 1))["log"].to_dataset().assign_coords(seed=("run", [3, 3]))
    with pytest.raises(
        InputError, match="runs 'bp-seed0' and 'bp-seed1' share condition 'bp' and seed 3; give one"
    ):
        by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")


def test_runs_of_several_feedback_seeds_are_referred_to_compare() -> None:
    log = synthetic(("bp",), seeds=(0, 1))["log"].to_dataset()
    log = log.assign_coords(seed=("run", [3, 3]), feedback_seed=("run", [0, 1]))
    with pytest.raises(
        InputError,
        match=r"share condition 'bp' and seed 3 and differ in their feedback seed, .*: compare such runs "
        "with `fadiag compare`, or analyze the runs of each feedback seed separately",
    ):
        by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")


def test_runs_without_a_condition_have_a_name() -> None:
    log = synthetic(("bp",))["log"].to_dataset().assign_coords(condition=("run", ["bp", "", "bp"]))
    array = by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")
    assert list(array["condition"].values) == ["bp", "(no condition)"]
