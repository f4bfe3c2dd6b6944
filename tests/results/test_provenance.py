"""What the results say of how runs were recorded holds for the runs that are selected."""

import xarray as xr

from fadiag.analysis import analyze
from fadiag.results import by_condition, select
from fadiag.results.provenance import joined, of_these_runs, recordings


def test_one_value_where_all_agree() -> None:
    assert joined([16, None, 16]) == 16
    assert joined([16, "", 5]) == "16, 5"
    assert joined([None]) == ""


def test_attributes_are_those_of_the_runs_that_are_left(make_run) -> None:
    results = analyze([make_run(0), make_run(1, condition="bp", rows_valid=5)], metrics=["error_cosine"])
    results["probe"] = results["probe"].to_dataset().assign_coords(kept_samples=("run", [16.0, 5.0]))
    whole = results["probe/error_cosine"].assign_attrs(samples="16, 5")
    assert of_these_runs(whole)["samples"] == "16, 5"
    assert of_these_runs(select(whole, condition="bp"))["samples"] == "5"
    assert of_these_runs(select(whole, condition="bp"))["split"] == "test"
    assert by_condition(results, "error_cosine").attrs["samples_of"] == {"fa": ["16"], "bp": ["5"]}


def test_samples_are_those_that_the_variable_counts() -> None:
    coords = {"run": ["a"], "kept_samples": ("run", [8]), "batch_samples": ("run", [32])}
    attrs = {"samples": 1, "samples_coordinate": "batch_samples"}
    assert of_these_runs(xr.DataArray([0.0], coords, ["run"], attrs=attrs))["samples"] == "32"
    assert of_these_runs(xr.DataArray([0.0], coords, ["run"], attrs={"samples": 1}))["samples"] == 1


def test_a_recording_is_its_run_id_and_generation(make_run) -> None:
    log = analyze([make_run(0), make_run(1)], metrics=["error_cosine"])["log"].to_dataset()
    assert recordings(log) == [("id-fa-0", 0), ("id-fa-1", 0)]
    assert recordings(log.drop_vars("run_id")) == [("", 0)] * 2
