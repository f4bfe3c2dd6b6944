"""analyze: every number against a plain computation, labels, missing and invalid signals."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import TABLE, Metric, analyze
from tests.analysis.dense import at, entropy_rank, participation, spectrum


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


def test_the_results_tell_of_how_many_samples_each_run_is(make_run):
    results = analyze([make_run(0), make_run(1, rows_valid=5)])
    probe = results["probe"].to_dataset()
    kept = probe["error_cosine"].attrs["samples_coordinate"]
    assert kept == "kept_samples"
    assert len(set(probe[kept].values)) == len(str(probe["error_cosine"].attrs["samples"]).split(", "))
    assert probe["probe_mode"].values.tolist() == ["eval"] * 2
