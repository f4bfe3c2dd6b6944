"""What cannot be measured is left out by name, and takes nothing else with it."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import Metric, analyze
from fadiag.analysis.metrics.table import choose
from fadiag.errors import AnalysisWarning, InputError, MissingSignalError, StoreError
from fadiag.results import load_results, save_results, select
from fadiag.results.by_condition import by_condition
from fadiag.results.left_out import left_out
from fadiag.store import compact

RANK = "error_participation_ratio_raw"
#: Enough where it does not matter what was measured: a few are measured and written much faster than all.
SOME = [RANK, "error_cosine", "weight_feedback_cosine"]


def measured(*runs, **options):
    """Analyze, and return the results with what they say was left out, as text."""
    with pytest.warns(AnalysisWarning) as warned:
        results = analyze(*runs, **options)
    (warning,) = [w for w in warned if w.category is AnalysisWarning]
    records = left_out(results)
    assert str(warning.message).startswith(
        f"{len(records)} left out of the results, listed in their attribute "
    )
    assert records[0].run in str(warning.message)
    return results, [str(record) for record in records]


def same_values(results: xr.DataTree, expected: xr.DataTree, **at) -> None:
    for group in expected.children:
        for name, array in expected[group].data_vars.items():
            xr.testing.assert_equal(results[group][name].sel(at), array)


def spoil_json(store: Path) -> None:
    (store / "zarr.json").write_text("{")


def lose_steps(store: Path) -> None:
    (store / "probe" / "step" / "c.0").unlink()


@pytest.mark.parametrize("spoil", [shutil.rmtree, spoil_json, lose_steps], ids=lambda f: f.__name__)
def test_a_run_that_cannot_be_opened_is_left_out(spoil, make_run, record, tmp_path) -> None:
    whole, broken = (record(make_run(i), tmp_path / f"{i}.zarr") for i in (0, 1))
    spoil(broken)
    results, told = measured([whole, broken], metrics=SOME)
    assert len(told) == 1
    assert told[0].startswith(("run 1: ", "run fa-seed1: "))
    same_values(results, analyze(whole, metrics=SOME), run=["fa-seed0"])
    with pytest.raises(StoreError):
        analyze([whole, broken], strict=True)
    with pytest.raises(StoreError):
        analyze([broken, tmp_path / "gone.zarr"])
    # Where its condition and seed are known, it has its place, so that no figure takes it for never run.
    given = {broken: {"condition": "fa", "seed": 1}}
    results, told = measured([whole, broken], meta=given, metrics=SOME)
    assert told[0].startswith("run fa-seed1: ")
    assert results["probe/run"].values.tolist() == ["fa-seed0", "fa-seed1"]
    assert results[f"probe/{RANK}"].sel(run="fa-seed1").isnull().all()
    assert by_condition(results, RANK).attrs["runs_of"] == {"fa": {0: "fa-seed0", 1: "fa-seed1"}}


def test_an_empty_run_is_left_out_by_the_name_that_it_tells(make_run) -> None:
    results, told = measured([make_run(0), make_run(1, steps=())])
    assert told == ["run fa-seed1: run fa-seed1 is empty: no step was committed to any stream"]
    assert results["probe/run"].values.tolist() == ["fa-seed0", "fa-seed1"]


def sealed_with_a_flipped_bit(run: Path, array: str) -> Path:
    """Return a sealed copy of a run with a flipped bit, which only reading finds."""
    store = run.with_name("sealed.zarr")
    compact(run, store)
    (shard,) = [path for path in (store / array).rglob("c*") if path.is_file()]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    return store


def test_a_signal_that_cannot_be_read_is_left_out(make_run, record, tmp_path) -> None:
    recorded = record(make_run(0), tmp_path / "a.zarr")
    whole, store = analyze(recorded), sealed_with_a_flipped_bit(recorded, "probe/fc2/error")
    results, told = measured(store)
    assert len(told) == 1
    assert told[0].startswith("error of layer 'fc2' at step 0 (and at 3 more) cannot be measured: ")
    assert "probe/fc2/error" in told[0]
    assert results[f"probe/{RANK}"].sel(layer="fc2").isnull().all()
    for name in (RANK, "error_cosine"):
        xr.testing.assert_equal(
            results[f"probe/{name}"].sel(layer=["fc1", "out"]),
            whole[f"probe/{name}"].sel(layer=["fc1", "out"]),
        )
    xr.testing.assert_equal(results["state"].to_dataset(), whole["state"].to_dataset())
    with pytest.raises(InputError, match=r"error of layer 'fc2' at step 0 cannot .*; analyze without strict"):
        analyze(store, strict=True)


def test_a_scalar_that_cannot_be_read_is_left_out(make_run, record, tmp_path) -> None:
    store = sealed_with_a_flipped_bit(record(make_run(0), tmp_path / "a.zarr"), "log/loss")
    results, told = measured(store)
    assert told[0].startswith("loss of stream 'log' cannot be measured: ")
    assert results["log/loss"].isnull().all()
    assert results["log/test_accuracy"].notnull().all()


def _layer_is_fc2(view) -> np.ndarray:
    if view.layer.name == "fc2":
        raise ZeroDivisionError("division by zero")
    return np.ones(len(view.steps))


def _two_numbers(view) -> np.ndarray:
    return np.ones((len(view.steps), 2))


def _two_numbers_in_fc2(view) -> np.ndarray:
    return _two_numbers(view) if view.layer.name == "fc2" else np.float64(3)  # one number serves all steps


def _null(view, values):
    return {"null_low": values - 1, "null_middle": values}


def _no_null(view, values):
    raise KeyError("draws")


MINE = Metric("mine", ("probe",), ("error",), _layer_is_fc2, "mine", "1", "this test")


def test_a_metric_that_fails_for_one_layer_is_left_out_there(make_run) -> None:
    results, told = measured(make_run(0), metrics=[MINE, RANK])
    raised = "mine of layer 'fc2' at step 0 (and at 3 more) raised ZeroDivisionError: division by zero"
    assert told == [f"{raised} (run fa-seed0)"]
    assert results["probe/mine"].isnull().values[0, :, 0].tolist() == [False, True, False]
    assert results[f"probe/{RANK}"].notnull().all()
    assert "left out" in results["probe/mine"].attrs["not_a_number"]
    assert "left out" not in str(results[f"probe/{RANK}"].attrs)
    with pytest.raises(InputError, match="mine of layer 'fc2' at step 0 raised ZeroDivision") as caught:
        analyze(make_run(0), metrics=[MINE, RANK], strict=True)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_metric_that_gives_no_number_a_step_says_so(make_run) -> None:
    metric = replace(MINE, function=_two_numbers)
    with pytest.raises(
        MissingSignalError, match=r"mine cannot be measured in any run: mine of layer 'fc1' at"
    ):
        analyze(make_run(0), metrics=[metric])
    with pytest.raises(MissingSignalError, match="mine cannot be measured in any run"):
        analyze(make_run(0), metrics=[metric, RANK])
    some = replace(metric, function=_two_numbers_in_fc2)
    results, told = measured(make_run(0), metrics=[some, RANK])
    assert "an array of shape (4, 2) came back, not one number for each of 4 steps" in told[0]
    assert results["probe/mine"].isnull().values[0, :, 0].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("null", "reason"),
    [
        (_null, "cannot be measured: the null gives null_middle; it can give null_low, null_high, null_mean"),
        (_no_null, "raised KeyError: 'draws'"),
    ],
)
def test_a_null_that_fails_leaves_its_metric(null, reason, make_run, tmp_path) -> None:
    metric, path = replace(choose([RANK])[0], null=null, null_signals=()), tmp_path / "results.zarr"
    run = make_run(0)
    for _ in range(2):  # the second time the values are known, and the null is still missing
        results, told = measured(run, metrics=[metric], output=path)
        assert len(told) == 3
        assert told[0].startswith(f"{RANK}_null of layer 'fc1' at step 0 (and at 3 more) {reason}")
        xr.testing.assert_equal(results[f"probe/{RANK}"], analyze(run)[f"probe/{RANK}"])
        kept = [f"{RANK}_null_low"] if null is _null else []
        assert [name for name in results["probe"].data_vars if "null" in name] == kept


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_and_a_lack_of_memory_end_it(error, make_run) -> None:
    def ends(view):
        raise error

    with pytest.raises(error):
        analyze(make_run(0), metrics=[replace(MINE, function=ends), RANK])


def test_another_process_tells_what_it_left_out(make_run, record, tmp_path) -> None:
    store = sealed_with_a_flipped_bit(record(make_run(0), tmp_path / "a.zarr"), "probe/fc2/error")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        elsewhere, told = measured(store, executor=executor)
    here, same = measured(store)
    assert told == same
    assert elsewhere.attrs["left_out"] == here.attrs["left_out"]


def test_a_factor_of_another_unfolding_leaves_the_other_runs(make_run) -> None:
    other = make_run(1)
    for name in other["probe"].children:
        other["probe"][name]["error"].attrs = {"reduction": "factor", "unfolding": "channels"}
    told = "error of layer 'fc1' is the factor of its 'channels' unfolding; analyze with unfolding='channels'"
    results, lines = measured([make_run(0), other])
    assert lines == [f"run fa-seed1: {told}, without runs of another unfolding (run fa-seed1)"]
    assert results[f"probe/{RANK}"].isnull().all(["layer", "step"]).values.tolist() == [False, True]
    for arguments in ({"runs": other}, {"runs": [make_run(0), other], "strict": True}):
        with pytest.raises(InputError, match=told):
            analyze(**arguments)


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_results_keep_what_was_left_out(suffix, make_run, edit, tmp_path) -> None:
    diverged = [edit(make_run(i), "probe/fc1/error", slice(1, None), np.nan) for i in range(3)]
    results, told = measured([make_run(3), *diverged], metrics=SOME)
    again = load_results(save_results(results, tmp_path / f"results{suffix}"))
    assert [str(record) for record in left_out(again)] == told
    assert len(told) == 3
    assert [str(record) for record in left_out(select(again, seed=[3, 1]))] == told[1:2]
