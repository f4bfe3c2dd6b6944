"""What `analyze` is given: runs and their labels, meta entries, metrics, options."""

import shutil
import warnings

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import analyze, compare
from fadiag.errors import AnalysisWarning, CaptureWarning, InputError, MissingSignalError, StoreError
from fadiag.results import load_results, to_pandas
from fadiag.store import compact, run_info


def test_equal_labels_are_told_apart(make_run):
    runs = [make_run(0) for _ in range(3)]
    for i, run in enumerate(runs):
        run.attrs["run_id"] = f"id{i}"
    results = analyze(runs, metrics=["error_cosine"])
    assert list(results["probe/run"].values) == ["fa-seed0", "fa-seed0#2", "fa-seed0#3"]


def test_one_recording_is_one_run(make_run, record, tmp_path):
    store = record(make_run(0), tmp_path / "run.zarr")
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    compact(store, tmp_path / "sealed.zarr")
    for again in (store, copy, tmp_path / "sealed.zarr"):
        with pytest.raises(InputError) as caught:
            analyze([store, again], metrics=["error_cosine"])
        told = f"{store} and {again} are one recording (run id {run_info(store).run_id}, generation 0)"
        assert str(caught.value) == f"{told}, which is one run however often it is copied; name it once"


def test_meta_entries_that_clash_are_told(make_run):
    run = make_run(0, meta={"loss": 5, "error_cosine": 1, "step": 3})
    with pytest.warns(CaptureWarning) as caught:
        results = analyze(run, metrics=["error_cosine"])
    assert [str(one.message).partition(";")[0] for one in caught] == [
        "'loss' is an entry of meta and a logged or measured value, which is called "
        "'loss_value' in the results",
        "'error_cosine' is an entry of meta and a logged or measured value, which is called "
        "'error_cosine_value' in the results",
        "meta's entry 'step' is not in the results, which have a coordinate of that name",
    ]
    assert results["log/loss_value"].dims == ("run", "step")
    assert results["log/loss"].item() == 5
    assert list(results["log/step"].values) == [0, 10, 20, 30]


def test_a_missing_signal_is_named(make_run):
    told = "error_cosine needs the signal 'error_bp'; run fa-seed1, layer 'fc1' recorded activation, error, "
    runs = [make_run(0), make_run(1, drop=("error_bp",))]
    for arguments in ({"runs": runs, "strict": True}, {"runs": runs[1]}):
        with pytest.raises(MissingSignalError) as caught:
            analyze(**arguments, metrics=["error_cosine"])
        assert str(caught.value).startswith(told)
    with pytest.warns(AnalysisWarning, match=f"1 left out of the results.*: run fa-seed1: {told}"):
        results = analyze(runs, metrics=["error_cosine"])
    assert results["probe/error_cosine"].isnull().values[:, 0, 0].tolist() == [False, True]
    analyze(make_run(1, drop=("fc1/error_bp",)), metrics=["error_cosine"])  # one layer without it is normal


def test_a_missing_stream_is_named(make_run):
    tree = make_run(0)
    del tree["state"]
    with pytest.raises(
        MissingSignalError, match=r"needs a stream of kind state; run fa-seed0 recorded probe \(probe\), log"
    ):
        analyze(tree, metrics=["weight_stable_rank_raw"])


def test_no_runs_and_empty_runs(make_run, tmp_path):
    with pytest.raises(InputError, match="no runs given"):
        analyze([])
    with pytest.raises(InputError, match="run 0 is a int; give a path"):
        analyze([3])
    with pytest.raises(StoreError, match="run fa-seed0 is empty"):
        analyze(make_run(0, steps=()))
    with pytest.raises(StoreError, match=str(tmp_path / "gone.zarr")):
        analyze(tmp_path / "gone.zarr")


def test_unknown_metrics_and_options(make_run):
    with pytest.raises(InputError, match="no metric 'error_cosin'; near: error_cosine"):
        analyze(make_run(0), metrics=["error_cosin"])
    with pytest.raises(InputError, match="no metric 'eror'; near: error_cosine, error_overlap"):
        analyze(make_run(0), metrics=["eror"])
    with pytest.raises(InputError, match="no metric 'rank'; near: error_effective_rank_raw"):
        analyze(make_run(0), metrics=["rank"])
    with pytest.raises(InputError, match="no metric 'x'; the table has"):
        analyze(make_run(0), metrics=["x"])
    with pytest.raises(InputError, match="metrics is empty"):
        analyze(make_run(0), metrics=[])
    with pytest.raises(InputError, match="unfolding is 'rows'"):
        analyze(make_run(0), unfolding="rows")
    with pytest.raises(InputError, match="k is 0"):
        analyze(make_run(0), k=0)


KEYS = {"opt/lr": "opt_lr", "weight decay": "weight_decay", ".": None, "": None, "é": "é"}


@pytest.mark.parametrize(("key", "name"), KEYS.items())
def test_meta_entries_of_any_name_reach_the_results(key, name, make_run, tmp_path):
    runs = [make_run(seed, meta={key: seed / 2}) for seed in (0, 1)]
    path = tmp_path / "results.zarr"
    with warnings.catch_warnings(record=True, action="always") as caught:
        analyze(runs, metrics=["error_cosine"], output=path)
    told = [str(w.message) for w in caught if issubclass(w.category, CaptureWarning)]
    assert told == (
        []
        if name == key
        else [f"meta's entry '{key}' is called '{name}' in the results; record the entry under another name"]
        if name
        else [
            f"meta's entry '{key}' is not in the results, because no name is left for it; record the "
            "entry under another name"
        ]
    )
    again = load_results(path)
    if name:
        np.testing.assert_array_equal(again["probe"][name], [0, 0.5])
    assert len(to_pandas(again)) > 0
    sides = [again["probe"].to_dataset().isel(run=[i]) for i in (0, 1)]
    assert len(compare(*(xr.DataTree.from_dict({"/probe": side}) for side in sides))) > 0


@pytest.mark.parametrize("k", [0, 2.5, True, "3"])
def test_a_k_that_is_no_dimension_is_refused(k, make_run):
    with pytest.raises(InputError, match=f"k is {k!r}" if k != 0 else "k is 0"):
        analyze(make_run(0), k=k)
