"""Values that are not finite: padding, a run that diverged, and a value without a number."""

import numpy as np
import pytest

from fadiag.analysis import TABLE, analyze
from fadiag.analysis.metrics.signal_refs import WINDOW
from fadiag.errors import AnalysisWarning, InputError
from fadiag.results.left_out import left_out
from tests.analysis.dense import at, participation


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
        "1 left out of the results, listed in their attribute left_out: run fa-seed0: " + told
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


def test_a_static_signal_that_is_not_finite_is_named_and_left_out(make_run, edit):
    tree = edit(make_run(0), "static/fc2/feedback", (0, 0), np.inf)
    told = r"feedback of layer 'fc2' holds 1 values that are not finite of \d+"
    with pytest.raises(InputError, match=told):
        analyze(tree, strict=True)
    with pytest.warns(AnalysisWarning, match=told):
        results = analyze(tree)
    assert results["state/weight_feedback_cosine"].sel(layer="fc2").isnull().all()
    assert results["state/weight_feedback_cosine"].sel(layer="out").notnull().all()
