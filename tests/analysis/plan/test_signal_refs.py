"""Metrics that read other layers and other steps: chains, direct rules, windows, the first record."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from fadiag.analysis import analyze
from fadiag.analysis.plan.signal_refs import WINDOW, expand, owner_of
from fadiag.errors import MissingSignalError
from fadiag.store import ArraySpec, RunWriter

LONG = tuple(range(0, 10 * (WINDOW + 3), 10))


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


def test_names_of_neighbors():
    chain = ("a", "b", "c")
    assert owner_of(chain, "b", 1, "above/error") == ("c", "error")
    assert owner_of(chain, "a", 0, "above2/static/feedback") == ("c", "static/feedback")
    assert owner_of(chain, "b", 1, "below/weight") == ("a", "weight")
    assert owner_of(chain, "a", 0, "below/weight").layer is None
    assert owner_of(chain, "c", 2, "above/weight").layer is None
    assert owner_of((), "b", 1, "above/weight").layer is None
    assert owner_of(chain, "b", 1, "recent/update") == ("b", "recent/update")
    assert expand(2, ["above*/weight", "x"]) == ("above/weight", "above2/weight", "x")
    assert expand(0, ["above*/weight"]) == ("above/weight",)


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


def test_layers_that_do_not_fit_are_no_chain(make_run):
    tree = make_run(0)
    for path in ("probe/fc2", "state/fc2", "static/fc2"):
        data = tree[path].to_dataset(inherit=False)
        tree[path] = xr.DataTree(data.isel({"in": slice(0, -1)}, missing_dims="ignore"))
    assert "path_alignment" not in analyze(tree)["state"]
    with pytest.raises(
        MissingSignalError, match="path_alignment needs layers in a chain, each a matrix that fits"
    ):
        analyze(tree, metrics=["path_alignment"])


def test_weights_kept_transposed_are_no_chain(make_run):
    """Square ones would fit either way round."""
    tree = make_run(0)
    for name in ("fc1", "fc2", "out"):
        for path in (f"state/{name}", f"static/{name}"):
            data = tree[path].to_dataset(inherit=False)
            tree[path] = xr.DataTree(data.rename({"in": "out", "out": "in"}))
    assert "path_alignment" not in analyze(tree)["state"]


def test_layers_with_positions_are_no_chain(make_run):
    tree = make_run(0)
    for name in ("fc1", "fc2", "out"):
        data = tree[f"probe/{name}"].to_dataset(inherit=False)
        for signal, array in data.data_vars.items():
            if "sample" in array.dims:
                data[signal] = array.expand_dims(position=2, axis=2)
        tree[f"probe/{name}"] = xr.DataTree(data)
    assert "modulator_pseudo_cosine" not in analyze(tree)["probe"]


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


def test_exploration_is_of_the_last_records(make_run, record, tmp_path):
    tree = make_run(0, steps=LONG)
    expected = analyze(tree, metrics=[f"update_exploration_{WINDOW}"])[f"state/update_exploration_{WINDOW}"]
    stored = analyze(record(tree, tmp_path / "a.zarr"), metrics=[f"update_exploration_{WINDOW}"])
    np.testing.assert_array_equal(stored[f"state/update_exploration_{WINDOW}"], expected)
    blocks = []
    more = {"output": tmp_path / "r.zarr", "progress": lambda done, total: blocks.append(total)}
    for _ in range(2):
        analyze(tmp_path / "a.zarr", metrics=[f"update_exploration_{WINDOW}"], **more)
    assert (
        blocks[-1] == 3
    )  # the last step has no update yet: a layer's one block each; too short a window has none
    values = expected.sel(run="fa-seed0", layer="fc2")
    assert values[: WINDOW - 1].isnull().all()
    assert np.isnan(values[-1])  # no update after the last step
    u = tree["state/fc2/update"].values[1 : WINDOW + 1].astype(np.float64)
    s = np.einsum("tij,tik->jk", u, u)
    assert float(values[WINDOW]) == pytest.approx(np.trace(s) ** 2 / (s**2).sum(), rel=1e-9)


def test_a_window_is_read_in_bounded_memory(tmp_path):
    update = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    with RunWriter(tmp_path / "a.zarr", manifest={}) as writer:
        writer.declare_stream("state", attrs={"kind": "state"})
        writer.declare("state", "fc", "update", ArraySpec(("out", "in"), update.shape, "float32"))
        for step in range(40):
            writer.append("state", step, {("fc", "update"): np.roll(update, step)})
    with ThreadPoolExecutor(1) as one:
        tracemalloc.start()
        analyze(tmp_path / "a.zarr", metrics=[f"update_exploration_{WINDOW}"], executor=one)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * 2**20


def test_cka_is_with_the_first_record(make_run, edit):
    tree = make_run(0)
    first = tree["probe/fc2/activation"].values[0]
    tree = edit(tree, "probe/fc2/activation", 2, 3 * first[:, ::-1] + 1)
    results = analyze(tree, metrics=["activation_cka_first"])
    name = "probe/activation_cka_first"
    assert value(results, name, "fc2", 0) == pytest.approx(1)
    assert value(results, name, "fc2", 20) == pytest.approx(1)
    assert abs(value(results, name, "fc2", 10)) < 0.5
    few = analyze(make_run(0, rows_valid=3), metrics=["activation_cka_first"])[name]
    assert few.isnull().all()
    assert "fewer than four samples" in few.attrs["not_a_number"]
