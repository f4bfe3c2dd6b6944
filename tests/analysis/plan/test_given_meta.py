"""Meta entries given to analyze, in place of those that the runs recorded."""

import os

import numpy as np
import pytest
import xarray as xr

from fadiag import open_run, select
from fadiag.analysis import Metric, analyze
from fadiag.errors import InputError


@pytest.fixture
def stores(make_run, record, tmp_path):
    # Two runs of one condition and seed, and one whose meta says neither.
    nameless = make_run(2)
    nameless.attrs["meta"] = {}
    trees = {"a": make_run(0), "b": make_run(1, meta={"seed": 0}), "c": nameless}
    return {name: record(tree, tmp_path / f"{name}.zarr") for name, tree in trees.items()}


METRICS = ["error_cosine"]


def test_condition_seed_and_other_entries_are_set_or_overridden(stores):
    a, b, c = stores.values()
    assert analyze([a, b, c], metrics=METRICS)["log/run"].values.tolist() == ["fa-seed0", "fa-seed0#2", "c"]
    meta = {b: {"condition": "fa+bn", "width": 64}, str(c): {"condition": "bp", "seed": np.int64(7)}}
    results = analyze([a, b, c], metrics=METRICS, meta=meta)
    for stream in results.children:
        coords = results[stream].coords
        assert coords["run"].values.tolist() == ["fa-seed0", "fa+bn-seed0", "bp-seed7"]
        assert coords["condition"].values.tolist() == ["fa", "fa+bn", "bp"]
        assert coords["seed"].values.tolist() == [0, 0, 7]
        np.testing.assert_array_equal(coords["width"].values, [np.nan, 64, np.nan])
        assert coords["rule"].values.tolist() == ["fa", "fa", ""]
    assert select(results, condition="bp", seed=7)["log/run"].item() == "bp-seed7"
    recorded = analyze([a, b, c], metrics=METRICS)
    np.testing.assert_array_equal(results["probe/error_cosine"].values, recorded["probe/error_cosine"].values)


def test_a_path_may_be_written_in_another_way(stores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = analyze("a.zarr", metrics=METRICS, meta={stores["a"]: {"seed": 5}})
    assert results["log/seed"].item() == 5
    (tmp_path / "sub").mkdir()
    results = analyze(stores["a"], metrics=METRICS, meta={os.path.join("sub", "..", "a.zarr"): {"seed": 6}})  # noqa: PTH118
    assert results["log/seed"].item() == 6


def test_new_entries_do_not_measure_again(stores, tmp_path):
    calls = []

    def one(view):
        calls.append(view)
        return np.ones(view.values("error").shape[0])

    metric = Metric("one", ("probe",), ("error",), one, "one", "1", "this test")
    path = tmp_path / "results.zarr"
    analyze(stores["a"], metrics=[metric], output=path)
    assert calls
    calls.clear()
    results = analyze(stores["a"], metrics=[metric], output=path, meta={stores["a"]: {"condition": "dfa"}})
    assert not calls
    assert results["probe/run"].item() == "dfa-seed0"
    assert (results["probe/one"] == 1).all()


def test_meta_of_no_run_is_refused(stores):
    with pytest.raises(
        InputError, match=r"meta names d\.zarr, which is none of the runs; they are .*a\.zarr"
    ):
        analyze(stores["a"], meta={"d.zarr": {"seed": 1}})
    with pytest.raises(
        InputError, match="meta names 0, which is none of the runs; they are none by its path"
    ):
        analyze(open_run(stores["a"]), meta={0: {"seed": 1}})


def test_a_run_named_twice_is_refused(stores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"meta names .*a\.zarr twice, the second time as \./a\.zarr"):
        analyze(stores["a"], meta={stores["a"]: {"seed": 1}, "./a.zarr": {"seed": 2}})


@pytest.mark.parametrize("value", [[1, 2], None, {"a": 1}, np.ones(2)])
def test_an_entry_that_is_no_scalar_is_refused(stores, value):
    with pytest.raises(InputError, match=r"meta of .*a\.zarr: 'seed' is .*; an entry is a text, a number"):
        analyze(stores["a"], meta={stores["a"]: {"seed": value}})


def test_what_is_no_mapping_of_entries_is_refused(stores):
    with pytest.raises(InputError, match=r"meta of .*a\.zarr is 'fa'; give its entries: \{'condition': 'fa'"):
        analyze(stores["a"], meta={stores["a"]: "fa"})


def test_trees_keep_what_they_recorded(make_run, stores):
    runs = [make_run(9, condition="bp"), stores["a"]]
    results = analyze(runs, metrics=METRICS, meta={stores["a"]: {"condition": "dfa"}})
    assert results["log/run"].values.tolist() == ["bp-seed9", "dfa-seed0"]
    assert isinstance(results, xr.DataTree)
