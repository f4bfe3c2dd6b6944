"""analyze: every number against a plain computation, labels, missing and invalid signals."""

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import TABLE, Metric, analyze, compare
from fadiag.analysis.metrics.signal_refs import WINDOW
from fadiag.errors import AnalysisWarning, CaptureWarning, InputError, MissingSignalError, StoreError
from fadiag.results import load_results, to_pandas
from fadiag.results.left_out import left_out
from fadiag.store import compact, run_info


def spectrum(matrix):
    return np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)


def participation(matrix):
    s = spectrum(matrix)
    return (s**2).sum() ** 2 / (s**4).sum()


def entropy_rank(weights):
    p = weights[weights > 0] / weights.sum()
    return np.exp(-(p * np.log(p)).sum())


def at(results, variable, layer="fc2", step=10, run=0):
    return float(results[variable].isel(run=run).sel(layer=layer, step=step))


@pytest.fixture(scope="module")
def results(make_run):
    return analyze([make_run(0), make_run(1, condition="bp")])


@pytest.fixture(scope="module")
def recorded(make_run):
    tree = make_run(0)
    return {
        stream: {
            name: {
                k: v.sel(step=10).values if "step" in v.dims else v.values
                for k, v in node.to_dataset().items()
            }
            for name, node in tree[stream].children.items()
        }
        for stream in ("probe", "state", "static")
    }


@pytest.mark.parametrize("signal", ["error", "modulator", "error_bp", "activation"])
def test_ranks_are_those_of_a_dense_computation(results, recorded, signal):
    x = recorded["probe"]["fc2"][signal].astype(np.float64)
    s = spectrum(x)
    diagonal = np.diag(x @ x.T)
    c = (x - x.mean(0)) @ (x - x.mean(0)).T
    n, total, square, fourth = len(x), np.trace(c), (c**2).sum(), (np.diag(c) ** 2).sum()
    expected = {
        "participation_ratio_raw": participation(x),
        "participation_ratio_centered": participation(x - x.mean(0)),
        "participation_ratio_row_normalized": participation(x / np.linalg.norm(x, axis=1, keepdims=True)),
        "effective_rank_raw": entropy_rank(s),
        "effective_rank_centered": entropy_rank(spectrum(x - x.mean(0))),
        "effective_rank_energy_raw": entropy_rank(s**2),
        "stable_rank_raw": (s**2).sum() / (s**2).max(),
        "effective_samples": diagonal.sum() ** 2 / (diagonal**2).sum(),
        "participation_ratio_debiased": (2 * square + (n * n - 3 * n + 1) * total**2 - n * (n - 1) * fourth)
        / ((n - 1) * (n - 2) * square + total**2 - n * (n - 1) * fourth),
    }
    for name, value in expected.items():
        assert at(results, f"probe/{signal}_{name}") == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("signal", ["gradient", "gradient_bp"])
def test_gradients_have_raw_ranks_only(results, recorded, signal):
    x = recorded["probe"]["fc2"][signal]
    assert at(results, f"probe/{signal}_participation_ratio_raw") == pytest.approx(participation(x), rel=1e-6)
    assert f"{signal}_participation_ratio_centered" not in results["probe"]


def test_error_cosine_is_over_samples(results, recorded):
    x, y = (recorded["probe"]["fc2"][s].astype(np.float64) for s in ("error", "error_bp"))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert at(results, "probe/error_cosine") == pytest.approx(cosines.mean(), abs=1e-12)
    assert at(results, "probe/error_cosine_median") == pytest.approx(np.median(cosines), abs=1e-12)
    assert at(results, "probe/error_cosine_valid") == 1.0
    assert at(results, "probe/error_norm_ratio") == pytest.approx(np.linalg.norm(x) / np.linalg.norm(y))


def test_a_dead_sample_has_no_direction(make_run, edit):
    tree = edit(make_run(0), "probe/fc2/error", (1, slice(0, 4)), 0.0)
    results = analyze(tree, metrics=["error_cosine", "error_cosine_valid"])
    assert at(results, "probe/error_cosine_valid") == 0.75
    x, y = (tree[f"probe/fc2/{s}"].values[1, 4:].astype(np.float64) for s in ("error", "error_bp"))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert at(results, "probe/error_cosine") == pytest.approx(cosines.mean(), abs=1e-12)


def test_a_dead_layer_has_rank_0_and_no_direction(make_run, edit):
    tree = edit(make_run(0), "probe/fc2/error", 1, 0.0)
    results = analyze(tree)
    assert np.isnan(at(results, "probe/error_cosine"))
    assert "no sample where both have a direction" in results["probe/error_cosine"].attrs["not_a_number"]
    for name in ("participation_ratio_raw", "effective_rank_centered"):
        assert at(results, f"probe/error_{name}") == 0
        assert np.isfinite(at(results, f"probe/error_{name}", step=20))
    assert np.isnan(at(results, "probe/error_overlap"))  # of what has no subspace
    assert np.isfinite(at(results, "probe/error_overlap", step=20))


def test_weight_and_feedback(results, recorded):
    w, b = recorded["state"]["fc2"]["weight"].ravel(), recorded["static"]["fc2"]["feedback"].ravel()
    cosine = w @ b / np.linalg.norm(w) / np.linalg.norm(b)
    assert at(results, "state/weight_feedback_cosine") == pytest.approx(cosine, abs=1e-6)
    assert at(results, "state/weight_feedback_angle") == pytest.approx(
        np.degrees(np.arccos(cosine)), abs=1e-4
    )
    moved = recorded["state"]["fc2"]["weight"] - recorded["static"]["fc2"]["weight_init"]
    name = "state/weight_displacement_participation_ratio_raw"
    assert at(results, name) == pytest.approx(participation(moved), rel=1e-4)
    assert at(results, name, step=0) == 0


def test_the_first_layers_feedback_is_left_out(results):
    cosine = results["state/weight_feedback_cosine"]
    assert cosine.sel(layer="fc1").isnull().all()
    assert cosine.sel(layer=["fc2", "out"]).notnull().all()


def test_update_progress_joins_state_and_probe(results, recorded):
    u, g = -recorded["state"]["fc2"]["update"].ravel(), recorded["probe"]["fc2"]["gradient_bp"].ravel()
    expected = u @ g / np.linalg.norm(u) / np.linalg.norm(g)
    assert at(results, "probe/update_progress") == pytest.approx(expected, abs=1e-6)
    assert np.isnan(at(results, "probe/update_progress", step=30))  # no update after the last step


def test_overlap_uses_classes_less_one(make_run, results, recorded):
    x, y = (np.linalg.svd(recorded["probe"]["fc2"][s])[2][:3] for s in ("error", "error_bp"))
    assert at(results, "probe/error_overlap") == pytest.approx(((x @ y.T) ** 2).sum() / 3, abs=1e-6)
    assert at(results, "probe/error_overlap_chance") == pytest.approx(3 / 10)
    told = analyze(make_run(0), metrics=["error_overlap"], k=2)
    x, y = x[:2], y[:2]
    assert at(told, "probe/error_overlap") == pytest.approx(((x @ y.T) ** 2).sum() / 2, abs=1e-6)


def test_nulls_stand_beside_their_numbers(results, recorded):
    draws = np.sort(recorded["probe"]["fc2"]["error_null_cosine"].astype(np.float64))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert at(results, "probe/error_cosine_null_low") == pytest.approx(low)
    assert at(results, "probe/error_cosine_null_high") == pytest.approx(high)
    assert at(results, "probe/error_cosine_null_mean") == pytest.approx(draws.mean())
    above = (draws >= at(results, "probe/error_cosine")).sum()
    assert at(results, "probe/error_cosine_null_p") == pytest.approx((1 + above) / 20)
    assert at(results, "probe/error_cosine_null_p_low") == pytest.approx((1 + 19 - above) / 20)
    s, fourth = (recorded["probe"]["fc2"][f"gate_null_{name}"] for name in ("spectrum_raw", "fourth_raw"))
    energy = s.astype(np.float64) ** 2
    for name, draws in (
        ("participation_ratio_raw", energy.sum(-1) ** 2 / (energy**2).sum(-1)),
        ("stable_rank_raw", energy.sum(-1) / energy.max(-1)),
        ("effective_samples", energy.sum(-1) ** 2 / fourth),
    ):
        assert at(results, f"probe/error_{name}_gate_null_mean") == pytest.approx(draws.mean(), rel=1e-5)
    name = "probe/error_participation_ratio_raw_gate_null"
    low = results[f"{name}_p_low"]
    drawn = energy.sum(-1) ** 2 / (energy**2).sum(-1)
    below = (drawn <= at(results, "probe/error_participation_ratio_raw")).sum()
    assert at(results, f"{name}_p_low") == pytest.approx((1 + below) / (1 + drawn.size))
    assert (low.attrs["tail"], low.attrs["draws_of"]) == ("lower", "gate_null_spectrum_raw")
    assert "rotated at its input" in low.attrs["null"]
    assert "gate null" in results[f"{name}_low"].attrs["long_name"]
    s = recorded["probe"]["fc2"]["error_null_spectrum_centered"].astype(np.float64)
    q = s / s.sum(-1, keepdims=True)
    expected = np.exp(-(q * np.log(q)).sum(-1)).mean()
    assert at(results, "probe/error_effective_rank_centered_null_mean") == pytest.approx(expected, rel=1e-5)


def test_rounding_floor_of_an_update(results, recorded):
    w, u = recorded["state"]["fc2"]["weight"], recorded["state"]["fc2"]["update"]
    floor = np.sqrt((np.spacing(np.abs(w)).astype(float) ** 2).sum() / 12) / np.linalg.norm(u)
    assert at(results, "state/update_rounding_floor") == pytest.approx(floor, rel=1e-5)
    assert at(results, "state/update_trustworthy") == 1.0


def test_layout_is_the_documented_one(results):
    assert list(results.children) == ["probe", "state", "log"]
    assert results["probe/error_cosine"].dims == ("run", "layer", "step")
    assert results["log/loss"].dims == ("run", "step")
    assert list(results["probe/layer"].values) == ["fc1", "fc2", "out"]
    assert list(results["probe/run"].values) == ["fa-seed0", "bp-seed1"]
    for group in results.children:
        assert list(results[group]["condition"].values) == ["fa", "bp"]
        assert list(results[group]["seed"].values) == [0, 1]
    attrs = results["probe/error_participation_ratio_centered"].attrs
    assert attrs["samples"] == 16
    assert attrs["centered"] == 1
    assert attrs["probe_mode"] == "eval"
    assert attrs["split"] == "test"
    assert attrs["unfolding"] == "samples"
    assert {"long_name", "units", "formula", "source", "definition_version"} <= set(attrs)
    assert all(
        isinstance(v, (str, int, float))
        for g in results.children
        for a in results[g].data_vars.values()
        for v in a.attrs.values()
    )


def test_runs_of_different_length_and_signals(make_run):
    results = analyze([make_run(0), make_run(1, steps=(0, 20, 50), drop=("error_bp",))])
    assert list(results["probe/step"].values) == [0, 10, 20, 30, 50]
    assert np.isnan(at(results, "probe/error_participation_ratio_raw", step=10, run=1))
    assert np.isfinite(at(results, "probe/error_participation_ratio_raw", step=50, run=1))
    assert results["probe/error_cosine"].isel(run=1).isnull().all()


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


def test_rows_beyond_the_valid_are_padding(make_run, edit):
    tree = edit(make_run(0, rows_valid=12), "probe/fc2/error", (slice(None), slice(12, None)), np.nan)
    results = analyze(tree, metrics=["error_participation_ratio_raw"])
    expected = participation(tree["probe/fc2/error"].values[1, :12])
    assert at(results, "probe/error_participation_ratio_raw") == pytest.approx(expected, rel=1e-6)


def test_nan_is_left_out_by_name_and_refused_under_strict(make_run, edit):
    tree = edit(make_run(0), "probe/fc2/error", (1, 3, slice(0, 7)), np.nan)
    told = "error of layer 'fc2' at step 10 holds 7 NaN of 160 values"
    with pytest.raises(InputError) as caught:
        analyze(tree, strict=True)
    assert str(caught.value) == f"{told} (run fa-seed0); analyze without strict to leave it out"
    with pytest.warns(AnalysisWarning) as warned:
        results = analyze(tree)
    assert str(warned[0].message) == (
        "1 left out of the results, which name each in their attribute left_out: run fa-seed0: " + told
    )
    (record,) = left_out(results)
    assert str(record) == f"{told} (run fa-seed0)"
    assert (record.run, record.stream, record.layer, record.signal) == ("fa-seed0", "probe", "fc2", "error")
    assert (record.step, record.steps, record.metric) == (10, 1, "")
    lacking = results["probe/error_participation_ratio_raw"].attrs["not_a_number"]
    assert lacking.endswith("or left out (see the attribute left_out of the results)")
    assert np.isnan(at(results, "probe/error_participation_ratio_raw"))
    assert np.isfinite(at(results, "probe/error_bp_participation_ratio_raw"))
    assert np.isfinite(at(results, "probe/error_participation_ratio_raw", step=20))


def test_inf_is_left_out_by_name(make_run, edit):
    tree = edit(make_run(0), "state/fc2/weight", (1, 0, 0), np.inf)
    told = "weight of layer 'fc2' at step 10 holds 1 Inf of 120 values"
    with pytest.raises(InputError, match=told):
        analyze(tree, strict=True)
    with pytest.warns(AnalysisWarning, match=told):
        results = analyze(tree)
    assert np.isnan(at(results, "state/weight_feedback_cosine"))
    assert np.isfinite(at(results, "state/weight_feedback_cosine", step=20))


def test_a_diverged_signal_is_left_out_from_there(make_run, edit):
    tree = edit(make_run(0), "probe/fc2/error", slice(2, None), np.nan)
    told = r"error of layer 'fc2' at step 20 \(and at 1 more\) holds 160 NaN of 160 values"
    with pytest.warns(AnalysisWarning, match=told):
        results = analyze(tree)
    values = results["probe/error_effective_rank_raw"].sel(layer="fc2", run="fa-seed0")
    assert np.isfinite(values).values.tolist() == [True, True, False, False]


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


def test_a_metric_of_ones_own(make_run):
    def largest(view):
        return np.abs(view.values("error")).max(axis=(1, 2)).astype(np.float64)

    mine = Metric(
        name="error_largest",
        kinds=("probe",),
        signals=("error",),
        function=largest,
        long_name="largest entry of the error",
        formula="max |x|",
        source="this test",
    )
    results = analyze(make_run(0), metrics=[mine, "error_cosine"])
    expected = np.abs(make_run(0)["probe/fc2/error"].sel(step=10)).max()
    assert at(results, "probe/error_largest") == pytest.approx(float(expected))
    assert results["probe/error_largest"].attrs["source"] == "this test"


def test_any_executor_gives_the_same_bits(make_run, results):
    with ThreadPoolExecutor(1) as one:
        again = analyze([make_run(0), make_run(1, condition="bp")], executor=one)
    for group in results.children:
        xr.testing.assert_identical(results[group].to_dataset(), again[group].to_dataset())


def test_progress_counts_every_block(make_run):
    seen = []
    analyze(make_run(0), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}


def test_the_table_has_one_row_a_name():
    names = [metric.name for metric in TABLE]
    assert len(names) == len(set(names))
    for metric in TABLE:
        assert metric.formula
        assert metric.source
        assert metric.long_name
        assert set(metric.kinds) <= {"probe", "live", "state"}


def test_every_value_that_is_not_a_number_has_its_reason(make_run, edit):
    dead = make_run(0)
    for stream in ("probe", "state", "static"):
        for layer, node in dead[stream].children.items():
            for signal in node.data_vars:
                dead = edit(dead, f"{stream}/{layer}/{signal}", slice(None), 0.0)
    results = analyze([dead, make_run(1, rows_valid=1)])  # nothing is left out: no value is what they have
    for group in results.children:
        for name, array in results[group].data_vars.items():
            assert array.notnull().all() or array.attrs["not_a_number"], name
    seen = set()
    for metric in TABLE:
        for group in ("probe", "state"):
            if metric.name in results[group] and f"update_exploration_{WINDOW}" != metric.name:
                second = results[group][metric.name].isel(step=1)
                nowhere = second.isnull().all("layer").values.any()
                assert bool(metric.undefined) or not nowhere, metric.name
                seen |= {metric.name} if nowhere else set()
    assert {"error_cosine", "weight_feedback_cosine", "error_participation_ratio_debiased"} <= seen
    told = results["probe/error_cosine"].attrs["not_a_number"]
    assert told == "a run, layer or step without the signals, or: no sample where both have a direction"


def test_layers_of_runs_of_other_depths_stand_in_forward_order(make_run):
    shallow, deep = make_run(0), make_run(1, condition="bp")
    for stream in ("probe", "state", "static"):
        node = shallow[stream]
        shallow[stream] = xr.DataTree(
            node.to_dataset(inherit=False), children={name: node[name] for name in ("fc1", "out")}
        )
        shallow[stream]["out"].attrs["order"] = 1
    for runs in ([shallow, deep], [deep, shallow]):
        assert list(analyze(runs)["probe"]["layer"].values) == ["fc1", "fc2", "out"]


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
            f"meta's entry '{key}' is not in the results, which have no name for it; record the entry under "
            "another name"
        ]
    )
    again = load_results(path)
    if name:
        np.testing.assert_array_equal(again["probe"][name], [0, 0.5])
    assert len(to_pandas(again)) > 0
    sides = [again["probe"].to_dataset().isel(run=[i]) for i in (0, 1)]
    assert len(compare(*(xr.DataTree.from_dict({"/probe": side}) for side in sides))) > 0


def test_a_static_signal_that_is_not_finite_is_named_and_left_out(make_run, edit):
    tree = edit(make_run(0), "static/fc2/feedback", (0, 0), np.inf)
    told = r"feedback of layer 'fc2' holds 1 values that are not finite of \d+"
    with pytest.raises(InputError, match=told):
        analyze(tree, strict=True)
    with pytest.warns(AnalysisWarning, match=told):
        results = analyze(tree)
    assert results["state/weight_feedback_cosine"].sel(layer="fc2").isnull().all()
    assert results["state/weight_feedback_cosine"].sel(layer="out").notnull().all()


def test_the_results_tell_of_how_many_samples_each_run_is(make_run):
    results = analyze([make_run(0), make_run(1, rows_valid=5)])
    probe = results["probe"].to_dataset()
    kept = probe["error_cosine"].attrs["samples_coordinate"]
    assert kept == "kept_samples"
    assert len(set(probe[kept].values)) == len(str(probe["error_cosine"].attrs["samples"]).split(", "))
    assert probe["probe_mode"].values.tolist() == ["eval"] * 2


@pytest.mark.parametrize("k", [0, 2.5, True, "3"])
def test_a_k_that_is_no_dimension_is_refused(k, make_run):
    with pytest.raises(InputError, match=f"k is {k!r}" if k != 0 else "k is 0"):
        analyze(make_run(0), k=k)
