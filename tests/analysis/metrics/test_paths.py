"""Metrics that read the layers above and below: whole paths, and direct rules."""

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import analyze


def cosine(a, b):
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def value(results, variable, layer, step=10):
    return float(results[variable].isel(run=0).sel(layer=layer, step=step))


def direct(tree, *, outputs=4, start=0.0):
    """Return the run under a direct rule: hidden layers have (outputs, units) feedback, the output none."""
    rng = np.random.default_rng(5)
    for stream in ("probe", "state", "static"):
        for name, node in tree[stream].children.items():
            data = node.to_dataset(inherit=False)
            data.attrs["feedback_kind"] = "exact" if name == "out" else "direct"
            if stream == "static":
                data = data.drop_vars("feedback")
                data["weight_init"] = start * data["weight_init"]
                if name != "out":
                    shape = (outputs, data["weight_init"].sizes["out"])
                    data["feedback"] = (("class", "unit"), rng.standard_normal(shape).astype(np.float32))
            tree[f"{stream}/{name}"] = xr.DataTree(data)
    return tree


def test_path_alignment_multiplies_all_layers_above(make_run):
    tree = make_run(0)
    results = analyze(tree)
    w = {n: tree[f"state/{n}/weight"].sel(step=10).values.astype(np.float64) for n in ("fc2", "out")}
    b = {n: tree[f"static/{n}/feedback"].values.astype(np.float64) for n in ("fc2", "out")}
    expected = cosine(w["out"] @ w["fc2"], b["out"] @ b["fc2"])
    assert value(results, "state/path_alignment", "fc1") == pytest.approx(expected, abs=1e-12)
    assert value(results, "state/path_alignment", "fc2") == pytest.approx(
        cosine(w["out"], b["out"]), abs=1e-12
    )
    assert np.isnan(value(results, "state/path_alignment", "out"))
    assert "path_alignment_direct" not in results["state"]


def test_pseudo_backprop_takes_the_layer_above(make_run):
    tree = make_run(0)
    results = analyze(tree, metrics=["modulator_pseudo_cosine"])
    delta = tree["probe/out/error"].sel(step=10).values.astype(np.float64)
    sent = delta @ np.linalg.pinv(tree["state/out/weight"].sel(step=10).values.astype(np.float64)).T
    modulator = tree["probe/fc2/modulator"].sel(step=10).values
    expected = np.mean([cosine(x, y) for x, y in zip(modulator, sent, strict=True)])
    assert value(results, "probe/modulator_pseudo_cosine", "fc2") == pytest.approx(expected, abs=1e-12)
    assert results["probe/modulator_pseudo_cosine"].sel(layer="out").isnull().all()


def test_direct_rules_align_with_their_feedbacks(make_run):
    tree = direct(make_run(0))
    results = analyze(tree)["state"]
    f = {n: tree[f"static/{n}/feedback"].values.astype(np.float64) for n in ("fc1", "fc2")}
    w = {n: tree[f"state/{n}/weight"].sel(step=10).values.astype(np.float64) for n in ("fc2", "out")}
    at = {"run": "fa-seed0", "step": 10}
    found = {str(k): v.sel(at) for k, v in results.data_vars.items()}
    expected = cosine(w["fc2"], f["fc2"].T @ f["fc1"])
    assert float(found["weight_feedback_cosine_direct"].sel(layer="fc2")) == pytest.approx(
        expected, abs=1e-12
    )
    output = found["weight_feedback_cosine_direct_output"]
    assert float(output.sel(layer="out")) == pytest.approx(cosine(w["out"], f["fc2"]), abs=1e-12)
    assert output.sel(layer=["fc1", "fc2"]).isnull().all()
    path = float(found["path_alignment_direct"].sel(layer="fc1"))
    assert path == pytest.approx(cosine(w["out"] @ w["fc2"], f["fc1"]), abs=1e-12)
    assert "path_alignment" not in found
    assert "weight_feedback_cosine" not in found


def test_the_alignment_matrix_of_the_exact_form_is_found(make_run):
    tree = direct(make_run(0))
    f = {n: tree[f"static/{n}/feedback"].values.astype(np.float64) for n in ("fc1", "fc2")}
    a = np.diag([1.0, 1.0, 1.0, 3.0])
    state = tree["state/fc2"].to_dataset(inherit=False)
    state["weight"].values[1] = f["fc2"].T @ a @ f["fc1"]
    tree["state/fc2"] = xr.DataTree(state)
    results = analyze(tree, metrics=["alignment_matrix_residual", "alignment_matrix_identity_cosine"])
    name = "state/alignment_matrix_identity_cosine"
    assert value(results, "state/alignment_matrix_residual", "fc2") < 1e-6
    assert value(results, name, "fc2") == pytest.approx(cosine(a, np.eye(4)), abs=1e-6)
    assert value(results, "state/alignment_matrix_residual", "fc2", step=20) > 0.1
    assert np.isnan(value(results, name, "fc2", step=20))
    assert "residual above 0.1" in results[name].attrs["not_a_number"]
