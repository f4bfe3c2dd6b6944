"""select: the runs that match, of a tree, a Dataset or an array; unknown values are refused by name."""

import numpy as np
import pytest
import xarray as xr

import fadiag
from fadiag.errors import InputError
from fadiag.results import select
from tests.results.synthetic_results import synthetic


@pytest.fixture
def results() -> xr.DataTree:
    return synthetic(("bp", "fa", "frozen"))


def runs_of(found: xr.DataTree, stream: str = "probe") -> list[str]:
    return found[stream]["run"].values.tolist()


def test_it_is_fadiags() -> None:
    assert fadiag.select is select


def test_a_tree_keeps_all_but_the_other_runs(results) -> None:
    found = select(results, condition="fa")
    assert list(found.children) == ["log", "probe", "state"]
    assert found.attrs == results.attrs
    for stream in found.children:
        assert runs_of(found, stream) == ["fa-seed0", "fa-seed1", "fa-seed2"]
        expected = results[stream].to_dataset().isel(run=slice(3, 6))
        xr.testing.assert_identical(found[stream].to_dataset(), expected)


def test_one_stream_of_a_tree_is_a_tree(results) -> None:
    found = select(results["probe"], seed=1)
    assert isinstance(found, xr.DataTree)
    assert found["run"].values.tolist() == ["bp-seed1", "fa-seed1", "frozen-seed1"]
    assert found.attrs == results["probe"].attrs


def test_a_dataset_and_an_array(results) -> None:
    dataset = results["probe"].to_dataset()
    xr.testing.assert_identical(select(dataset, condition="bp"), dataset.isel(run=slice(3)))
    array = results["log/test_accuracy"]
    xr.testing.assert_identical(select(array, run="fa-seed1"), array.isel(run=[4]))


def test_lists_of_values_in_the_order_of_the_results(results) -> None:
    found = select(results, condition=["frozen", "bp"], seed=np.array([2, 0]))
    assert runs_of(found) == ["bp-seed0", "bp-seed2", "frozen-seed0", "frozen-seed2"]
    assert runs_of(select(results, seed=range(2), condition=("fa",))) == ["fa-seed0", "fa-seed1"]


def test_two_keywords_at_once(results) -> None:
    assert runs_of(select(results, condition="fa", seed=2)) == ["fa-seed2"]


def test_without_a_keyword_all_runs_stay(results) -> None:
    xr.testing.assert_identical(select(results), results)


def test_a_value_that_no_run_has_is_refused_by_name(results) -> None:
    with pytest.raises(
        InputError, match=r"^condition='frosen' matches no run \(near: frozen\); there are bp, fa, frozen$"
    ):
        select(results, condition=["bp", "frosen"])
    with pytest.raises(InputError, match=r"^seed=7 matches no run; there are 0, 1, 2$"):
        select(results, seed=[0, 7])
    with pytest.raises(
        InputError, match=r"^run='fa-seed' matches no run \(near: fa-seed2, .*\); there are bp-seed0, "
    ):
        select(results, run="fa-seed")


def test_values_that_no_run_combines_are_refused(results) -> None:
    alone = xr.DataTree.from_dict({"/log": results["log"].to_dataset().isel(run=[0, 4])})
    with pytest.raises(InputError, match=r"^condition='bp', seed=1 match no run together; select by one"):
        select(alone, condition="bp", seed=1)


def test_a_keyword_that_no_run_has_is_refused_by_name(results) -> None:
    with pytest.raises(
        InputError,
        match=r"^the runs have no 'conditon' \(near: condition\); they have run, condition, rule, seed$",
    ):
        select(results, conditon="fa")
    with pytest.raises(InputError, match=r"^the runs have no 'layer'; they have run, condition, rule, seed$"):
        select(results, layer="fc1")


def test_what_has_no_runs_is_refused(results) -> None:
    with pytest.raises(InputError, match="the results have no dimension 'run' to select from"):
        select(results["log"].to_dataset().isel(run=0), condition="bp")


@pytest.mark.parametrize("seeds", [["x", "0", "y"], np.array(["x", "0", "y"], object)])
def test_seeds_as_text(seeds) -> None:
    array = xr.DataArray([1.0, 2.0, 3.0], {"run": list("abc"), "seed": ("run", seeds)}, ("run",))
    assert select(array, seed="y").values.tolist() == [3.0]
    assert select(array, seed=["y", "x"]).values.tolist() == [1.0, 3.0]
    assert select(array, seed=0).values.tolist() == [2.0]
    with pytest.raises(InputError, match="seed=1 matches no run; there are x, 0, y"):
        select(array, seed=1)


def test_runs_without_a_seed_are_of_none() -> None:
    # A coordinate of whole numbers is one of floats where a run has none.
    array = xr.DataArray([1.0, 2.0, 3.0], {"run": list("abc"), "seed": ("run", [0, np.nan, 1])}, ("run",))
    assert select(array, seed=0).values.tolist() == [1.0]
    with pytest.raises(InputError, match="seed=nan matches no run; there are 0, 1"):
        select(array, seed=np.nan)


def test_runs_without_a_condition(results) -> None:
    log = results["log"].to_dataset().isel(run=slice(3))
    some = log.assign_coords(condition=("run", ["bp", "", "bp"]))
    assert select(some, condition="bp")["seed"].values.tolist() == [0, 2]
    assert select(some, condition="(no condition)")["seed"].values.tolist() == [1]
    by_rule = log.drop_vars("condition")
    assert select(by_rule, condition="bp").sizes["run"] == 3
    with pytest.raises(InputError, match="the runs have no 'condition'; they have run, seed"):
        select(log.drop_vars(["condition", "rule"]), condition="bp")


def test_groups_with_other_runs_and_other_coordinates(results) -> None:
    probe, log = results["probe"].to_dataset(), results["log"].to_dataset()
    tree = xr.DataTree.from_dict(
        {
            "/probe": probe.assign_coords(split=("run", ["test"] * 4 + ["train"] * 5)),
            "/live": probe.isel(run=slice(3)).assign_coords(split=("run", ["train"] * 3)),
            "/log": log,
            "/notes": xr.Dataset({"text": 1}),
        }
    )
    found = select(tree, condition="fa")
    assert [found[name].sizes["run"] for name in ("probe", "live", "log")] == [3, 0, 3]
    assert found["notes/text"] == 1
    # The log does not say of which split it is: it has the runs that another group selects.
    split = select(tree, split="test")
    assert [split[name].sizes["run"] for name in ("probe", "live", "log")] == [4, 0, 4]
    assert runs_of(split, "log") == runs_of(split, "probe")


def test_results_of_analyze(make_run) -> None:
    runs = [make_run(seed, condition=condition) for condition in ("bp", "fa") for seed in (0, 1)]
    results = fadiag.analyze(runs, metrics=["error_cosine"])
    found = select(results, condition="fa", seed=0)
    alone = fadiag.analyze(runs[2], metrics=["error_cosine"])
    for stream in alone.children:
        xr.testing.assert_identical(found[stream].to_dataset(), alone[stream].to_dataset())
