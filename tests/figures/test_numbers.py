import csv

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures import FIGURES, by_condition, contrast, final, find, interval, write_numbers
from tests.figures.synthetic_results import ACCURACY, METHODS, RANK, STEPS, synthetic


def test_interval_is_scipys_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    found = interval(xr.DataArray(values, dims=("layer", "seed")))
    low, high = stats.t.interval(0.95, 6, values.mean(1), stats.sem(values, axis=1))
    np.testing.assert_allclose(found.low, low, rtol=1e-12)
    np.testing.assert_allclose(found.high, high, rtol=1e-12)


def test_interval_leaves_missing_runs_out_of_n() -> None:
    whole = interval(xr.DataArray([1.0, 2.0, 4.0], dims="seed"))
    gap = interval(xr.DataArray([1.0, np.nan, 2.0, 4.0], dims="seed"))
    assert int(gap.n) == 3
    assert float(gap.high) == pytest.approx(float(whole.high), rel=1e-15)


@pytest.mark.parametrize("values", [[2.0], [2.0, np.nan]])
def test_one_run_has_a_mean_and_no_interval(values: list[float]) -> None:
    found = interval(xr.DataArray(values, dims="seed"))
    assert float(found.mean) == 2.0
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_no_run_has_nothing() -> None:
    found = interval(xr.DataArray([np.nan, np.nan], dims="seed"))
    assert np.isnan(found.mean)
    assert int(found.n) == 0


def test_contrast_is_paired() -> None:
    # The seeds differ by 100, the conditions by 1: unpaired, the interval would be hundreds wide.
    values = xr.DataArray(
        [[0.0, 100.0, 200.0], [1.0, 101.0, 201.0]],
        dims=("condition", "seed"),
        coords={"condition": ["bp", "fa"]},
    )
    found = contrast(values, "fa", "bp")
    assert (float(found.low), float(found.mean), float(found.high)) == (1.0, 1.0, 1.0)


def test_runs_find_their_place_in_any_order() -> None:
    results = synthetic()
    log = results["log"].to_dataset()
    shuffled = xr.DataTree.from_dict(
        {"/log": log.isel(run=np.random.default_rng(1).permutation(log.sizes["run"]))}
    )
    xr.testing.assert_identical(
        by_condition(shuffled, "test_accuracy"), by_condition(results, "test_accuracy")
    )
    for condition in METHODS:
        end = by_condition(shuffled, "test_accuracy").sel({"condition": condition, "seed": 0}).values[-1]
        assert end == pytest.approx(ACCURACY[condition])


def test_a_missing_seed_is_nan() -> None:
    log = synthetic(("bp", "fa"))["log"].to_dataset()
    array = by_condition(xr.DataTree.from_dict({"/log": log.isel(run=slice(0, 5))}), "test_accuracy")
    assert array.sizes == {"condition": 2, "seed": 3, "step": len(STEPS)}
    assert np.isnan(array.sel({"condition": "fa", "seed": 2})).all()


def test_runs_without_meta_stand_for_themselves() -> None:
    log = synthetic(("bp",))["log"].to_dataset().drop_vars(["condition", "seed"])
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
        match=r"share condition 'bp' and seed 3 and differ in their feedback seed, .*: hold such runs "
        "against each other by `fadiag compare`, or analyze those of one feedback seed apart",
    ):
        by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")


def test_final_does_not_lend_an_earlier_step() -> None:
    # Condition a ends at step 10; one of its seeds diverged before. b goes on to step 20, c has no value.
    nan = np.nan
    values = [[[1.0, 2.0, nan], [1.0, nan, nan]], [[1.0, 5.0, 3.0], [1.0, 6.0, 4.0]], [[nan] * 3] * 2]
    array = xr.DataArray(
        values, dims=("condition", "seed", "step"), coords={"condition": ["a", "b", "c"], "step": [0, 10, 20]}
    )
    shared = final(array)
    np.testing.assert_array_equal(shared.transpose("condition", "seed"), [[2.0, nan], [5.0, 6.0], [nan, nan]])
    assert int(shared["step"]) == 10
    assert shared["last_step"].values.tolist() == [10, 20, -1]
    np.testing.assert_array_equal(final(array, ("b", "c")).transpose("condition", "seed")[0], [3.0, 4.0])
    apart = final(array.where((array["step"] > 10) == (array["condition"] == "b")))
    assert int(apart["step"]) == -1
    assert not apart.notnull().any()


def test_runs_without_a_condition_have_a_name() -> None:
    log = synthetic(("bp",))["log"].to_dataset().assign_coords(condition=("run", ["bp", "", "bp"]))
    array = by_condition(xr.DataTree.from_dict({"/log": log}), "test_accuracy")
    assert list(array["condition"].values) == ["bp", "(no condition)"]


def test_all_missing_variables_are_named() -> None:
    results = synthetic()
    results["probe"] = (
        results["probe"].to_dataset().drop_vars(["modulator_effective_rank_raw", "error_effective_rank_raw"])
    )
    with pytest.raises(
        MissingSignalError,
        match=r"no error_effective_rank_raw, modulator_effective_rank_raw \(near are .*\); record or log",
    ):
        find("rank").draw(results)


def test_an_unknown_figure_lists_the_known() -> None:
    with pytest.raises(InputError, match="no figure is called 'ranks'; there are accuracy, rank, alignment"):
        find("ranks")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_numbers_read_back_bit_equal(figure, tmp_path) -> None:
    numbers = figure.numbers(synthetic(spread=0.7))
    path = write_numbers(numbers, tmp_path / "numbers.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(int(array.notnull().sum()) for array in numbers.data_vars.values())
    for row in rows:
        array = numbers[row["variable"]].sel({"condition": row["condition"], "seed": int(row["seed"])})
        if row["layer"]:
            array = array.sel(layer=row["layer"])
        assert float(array.sel(step=int(row["step"]))) == float(row["value"])


def test_numbers_carry_the_known_finals() -> None:
    numbers = find("remedies").numbers(synthetic())
    at_end = final(numbers["error_participation_ratio_raw"].sel(layer="fc3"))
    for condition in METHODS:
        assert float(at_end.sel({"condition": condition, "seed": 0})) == pytest.approx(RANK[condition])


def _with_seeds(seeds) -> xr.DataTree:
    """Return results of BP (0.1, 0.5, 0.9 %) and FA (0.92, 0.11, 0.52 %) whose runs tell these seeds."""
    coords = {
        "run": [f"r{i}" for i in range(6)],
        "step": [10],
        "condition": ("run", ["bp"] * 3 + ["fa"] * 3),
        **({} if seeds is None else {"seed": ("run", seeds)}),
    }
    accuracy = np.array([[0.1, 0.5, 0.9, 0.92, 0.11, 0.52]]).T / 100
    log = xr.Dataset({"test_accuracy": (("run", "step"), accuracy)}, coords, {"kind": "log"})
    return xr.DataTree.from_dict({"/log": log})


@pytest.mark.parametrize(
    "seeds",
    [
        ["a", "b", "c", "c", "a", "b"],
        [0.1, 0.2, 0.3, 0.3, 0.1, 0.2],
        [1e16, 2e16, 3e16, 3e16, 1e16, 2e16],
        ["01", "1", "001", "001", "01", "1"],
    ],
)
def test_runs_pair_by_the_seed_that_they_tell(seeds) -> None:
    caption = find("accuracy").caption(_with_seeds(seeds))
    # FA is 0.02, 0.01 and 0.02 above BP of the same seed.
    assert "FA is above BP (FA − BP = 0.0167 points [0.00232, 0.0310]" in caption
    assert "over 3 paired seeds" in caption


@pytest.mark.parametrize(
    "seeds",
    [
        None,
        [0, 1, 2, np.nan, np.nan, np.nan],
        np.array(["a", "b", "c", "", "", ""], object),
        np.array([None] * 6, object),
    ],
)
def test_runs_that_tell_no_seed_pair_with_no_run(seeds) -> None:
    results = _with_seeds(seeds)
    caption = find("accuracy").caption(results)
    assert "no seed has a value for both FA and BP, so no runs are paired" in caption
    drawn = by_condition(results, "test_accuracy").isel(step=-1).sel({"condition": "fa"}).dropna("seed")
    assert drawn["seed"].values.tolist() == ["(no seed, run r3)", "(no seed, run r4)", "(no seed, run r5)"]
    lines = find("accuracy").draw(results).axes[0].lines
    assert {round(float(line.get_ydata()[0]), 2) for line in lines} >= {0.1, 0.5, 0.9, 0.92, 0.11, 0.52}


def test_whole_seeds_are_numbers_in_their_order() -> None:
    for seeds in ([10.0, 9.0, 0.0] * 2, [10, 9, 0] * 2):
        assert by_condition(_with_seeds(seeds), "test_accuracy")["seed"].values.tolist() == [0, 9, 10]


def _with_streams(**others: str) -> xr.DataTree:
    """Return results where other streams hold the probe's variables too, all of them 1000, without a null."""
    results = synthetic()
    probe = results["probe"].to_dataset()
    copy = probe.drop_vars([name for name in probe.data_vars if "_null_" in name]) * 0 + 1000.0
    added = {name: copy.assign_attrs(kind=kind) for name, kind in others.items()}
    return xr.DataTree.from_dict(
        {
            f"/{k}": v
            for k, v in sorted({**added, **{k: c.to_dataset() for k, c in results.children.items()}}.items())
        }
    )


def test_figures_take_the_probe_and_say_so() -> None:
    alone, beside = synthetic(), _with_streams(live="live")
    for name in ("rank", "alignment", "overlap", "remedies"):
        figure = find(name)
        xr.testing.assert_equal(figure.numbers(beside), figure.numbers(alone))
        told = figure.caption(beside)
        assert told == f"{figure.caption(alone)} Measured on the stream 'probe', not on live."
    assert by_condition(beside, "error_cosine").attrs["stream"] == "probe"
    assert by_condition(beside, "error_cosine", stream="live").attrs["stream"] == "live"


def test_a_scalar_logged_under_the_name_of_a_metric_is_not_taken_for_it() -> None:
    results = synthetic()
    log = results["log"].to_dataset()
    results["log"] = log.assign(
        error_cosine=log["test_accuracy"], weight_feedback_cosine=log["test_accuracy"]
    )
    assert find("alignment").caption(results) == find("alignment").caption(synthetic())
    xr.testing.assert_identical(
        by_condition(results, "error_cosine"), by_condition(synthetic(), "error_cosine")
    )
    assert by_condition(results, "weight_feedback_cosine", stream="log").dims == ("condition", "seed", "step")


def test_a_scalar_logged_under_the_name_of_a_metric_that_is_missing_does_not_stand_for_it() -> None:
    results = synthetic()
    log, probe = results["log"].to_dataset(), results["probe"].to_dataset()
    results["log"] = log.assign(error_overlap=log["test_accuracy"])
    results["probe"] = probe.drop_vars("error_overlap")
    with pytest.raises(MissingSignalError, match="the results hold no error_overlap by layer; record or log"):
        find("overlap").caption(results)


def test_a_figure_is_of_one_stream() -> None:
    # The first probe in order lacks the nulls; those of the other must not stand beside its values.
    numbers = find("overlap").numbers(_with_streams(held_out="probe"))
    assert list(numbers.data_vars) == ["error_overlap"]
    assert float(numbers["error_overlap"].min()) == 1000.0
    with pytest.raises(MissingSignalError, match="no error_overlap_null_low in stream 'held_out'; record"):
        by_condition(_with_streams(held_out="probe"), "error_overlap_null_low", stream="held_out")


def test_a_missing_variable_is_told_in_few_words() -> None:
    results = synthetic()
    results["log"] = results["log"].to_dataset().rename(test_accuracy="accuracy_of_tests")
    with pytest.raises(MissingSignalError) as caught:
        find("accuracy").draw(results)
    assert str(caught.value).startswith("the results hold no test_accuracy")
    assert len(str(caught.value)) < 200
