"""Metrics over several records: exploration, and CKA with the first record."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fadiag.analysis import analyze
from fadiag.analysis.metrics.signal_refs import WINDOW
from fadiag.store import ArraySpec, RunWriter

LONG = tuple(range(0, 10 * (WINDOW + 3), 10))


def value(results, variable, layer, step=10):
    return float(results[variable].isel(run=0).sel(layer=layer, step=step))


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
