"""Real stores: the numbers are those of the arrays that were recorded, whoever measures and whenever."""

import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import xarray as xr

from fadiag import spectra
from fadiag.analysis import analyze, effective_rank
from fadiag.errors import InputError, NotAStoreError, StoreError
from fadiag.store import ArraySpec, RunWriter, open_run


def same(a, b):
    assert list(a.children) == list(b.children)
    for group in a.children:
        for name in a[group].data_vars:
            np.testing.assert_array_equal(a[group][name].values, b[group][name].values, err_msg=name)


def test_a_store_gives_what_the_arrays_give(make_run, record, tmp_path):
    from_store = analyze(record(make_run(0), tmp_path / "a.zarr"))
    from_memory = analyze(make_run(0))
    assert set(from_memory["probe"].data_vars) == set(from_store["probe"].data_vars)
    for group in ("probe", "state", "log"):
        for name in from_memory[group].data_vars:
            np.testing.assert_array_equal(from_store[group][name].values, from_memory[group][name].values)
    assert list(from_store["probe/run"].values) == ["fa-seed0"]
    assert from_store["probe/error_cosine"].attrs["split"] == "test"


def test_a_name_without_meta_is_the_stores(make_run, record, tmp_path):
    tree = make_run(0)
    tree.attrs["meta"] = {}
    assert list(analyze(record(tree, tmp_path / "mine.zarr"))["probe/run"].values) == ["mine"]


def test_another_process_gives_the_same_bits(make_run, record, tmp_path):
    path = record(make_run(0), tmp_path / "a.zarr")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        same(analyze(path, executor=executor), analyze(path))


def test_a_run_that_goes_on_is_measured_from_there(make_run, record, tmp_path):
    path, output = tmp_path / "a.zarr", tmp_path / "results.zarr"
    metrics = ["error_cosine", "weight_feedback_cosine"]
    record(make_run(0), path, records=2)
    first = []
    analyze(path, metrics=metrics, output=output, progress=lambda done, total: first.append(total))
    record(make_run(0), path, resume=True)
    steps = []
    results = analyze(path, metrics=metrics, output=output, progress=lambda done, total: steps.append(total))
    same(results, analyze(path, metrics=metrics))
    assert list(results["probe/step"].values) == [0, 10, 20, 30]
    again = []
    analyze(path, metrics=metrics, output=output, progress=lambda done, total: again.append(total))
    assert again == []


def test_nothing_recorded_is_touched(make_run, record, tmp_path):
    path = record(make_run(0), tmp_path / "a.zarr")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()}
    analyze(path, output=tmp_path / "results.csv")
    with pytest.raises(InputError, match="exists and holds no results"):
        analyze(path, output=path)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()} == before


def write(path, dims, values, *, signals=("error",), attrs=None, late=0):
    """Write a probe of one layer with every signal given the same values (step, ...)."""
    spec = ArraySpec(dims, values.shape[1:], values.dtype.name, attrs or {})
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe", "samples": 32})
        writer.declare("probe", "first", "activation", ArraySpec(("sample", "out"), (32, 3), "float32"))
        for step, value in enumerate(values):
            if step == late:
                for signal in signals:
                    told = {"name": "conv", "order": 1, "out_features": 4}
                    writer.declare("probe", "conv", signal, spec, layer_attrs=told)
            arrays = {("conv", signal): value.copy() for signal in signals if step >= late}
            activation = np.random.default_rng(step).standard_normal((32, 3), np.float32)
            writer.append("probe", step, {("first", "activation"): activation, **arrays})
            writer.flush()
    return path


def participation(matrix):
    s2 = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    return s2.sum() ** 2 / (s2**2).sum()


@pytest.mark.parametrize("unfolding", ["samples", "channels"])
def test_convolution_signals_unfold(tmp_path, unfolding):
    x = np.random.default_rng(0).standard_normal((2, 32, 4, 5, 6)).astype(np.float32)
    path = write(tmp_path / "a.zarr", ("sample", "channel", "height", "width"), x)
    results = analyze(path, metrics=["error_participation_ratio_raw"], unfolding=unfolding)
    matrix = x[1].reshape(32, -1) if unfolding == "samples" else x[1].transpose(0, 2, 3, 1).reshape(-1, 4)
    value = results["probe/error_participation_ratio_raw"].sel(layer="conv", step=1, run="a")
    assert float(value) == pytest.approx(participation(matrix), rel=1e-9)
    assert value.attrs["unfolding"] == unfolding


def test_a_factor_gives_the_spectrum_of_its_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6)) + 0.5
    y = rng.standard_normal((500, 6))
    triangle = np.linalg.qr(np.column_stack([np.ones(500), x, y]))[1].astype(np.float32)
    told = {"reduction": "factor"}
    path = write(tmp_path / "a.zarr", ("factor", "out"), triangle[None, :, 1:7], attrs=told)
    results = analyze(path)["probe"]
    at = {"layer": "conv", "step": 0, "run": "a"}
    raw, centered = (
        float(results[f"error_participation_ratio_{how}"].sel(at)) for how in ("raw", "centered")
    )
    assert raw == pytest.approx(participation(x), rel=1e-6)
    assert centered == pytest.approx(participation(x - x.mean(0)), rel=1e-6)
    assert "error_effective_samples" not in results
    with pytest.raises(LookupError, match="needs the rows of error; run a recorded only a factor"):
        analyze(path, metrics=["error_effective_samples"])


def test_a_signal_declared_late_is_absent_before(tmp_path):
    x = np.random.default_rng(0).standard_normal((4, 32, 5)).astype(np.float32)
    path = write(tmp_path / "a.zarr", ("sample", "out"), x, late=2)
    values = analyze(path)["probe/error_participation_ratio_raw"].sel(layer="conv", run="a")
    assert list(np.isnan(values.values)) == [True, True, False, False]


def test_a_short_batch_is_padding(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 32, 5)).astype(np.float32)
    with RunWriter(tmp_path / "a.zarr", manifest={}) as writer:
        writer.declare_stream("live", attrs={"kind": "live"})
        writer.declare("live", "fc", "error", ArraySpec(("sample", "out"), (32, 5), "float32"))
        writer.append("live", 0, {("fc", "error"): x[0].copy()})
        writer.append("live", 1, {("fc", "error"): x[1, :20].copy()})
    values = analyze(tmp_path / "a.zarr")["live/error_participation_ratio_raw"].squeeze()
    assert list(values.values) == pytest.approx([participation(x[0]), participation(x[1, :20])], rel=1e-9)
    run = open_run(tmp_path / "a.zarr")
    assert run["live/fc/error"].dims == ("step", "sample", "out")
    assert values.attrs["samples"] == 32
    told = run["live/fc/error"].assign_coords(rows_valid=run["live"].rows_valid)
    expected = [spectra.effective_rank(x[0]), spectra.effective_rank(x[1, :20])]
    np.testing.assert_allclose(effective_rank(told), expected, rtol=1e-6)
    assert float(effective_rank(told.isel(step=1))) == pytest.approx(expected[1], rel=1e-6)
    with pytest.raises(InputError, match=r"error at step 1 is NaN in the last 12 of 32 samples: a short"):
        effective_rank(run["live/fc/error"])
    with pytest.raises(InputError, match="x holds 5 NaN"):  # one that is no padding
        effective_rank(_without(told, 3))


def _without(signal, sample):
    broken = signal.copy(deep=True).load()
    broken[:, sample] = np.nan
    return broken


def test_a_labelled_factor_of_another_unfolding_is_refused():
    factor = xr.DataArray(
        np.random.default_rng(0).standard_normal((2, 4, 3)),
        dims=("step", "factor_channel", "channel"),
        name="error",
        attrs={"reduction": "factor", "unfolding": "channels"},
    )
    with pytest.raises(InputError, match="error is the factor of its 'channels' unfolding; give unf"):
        effective_rank(factor)
    assert effective_rank(factor, unfolding="channels").attrs["unfolding"] == "channels"
    assert np.isfinite(effective_rank(factor.assign_attrs(unfolding="both"))).all()


def test_a_feedback_that_changes_is_followed(make_run, record, tmp_path):
    tree = make_run(0)
    state = tree["state/fc2"].to_dataset(inherit=False)
    moved = np.random.default_rng(9).standard_normal(state["weight"].shape).astype(np.float32)
    tree["state/fc2"] = xr.DataTree(state.assign(feedback=(state["weight"].dims, moved)))
    results = analyze(record(tree, tmp_path / "a.zarr"), metrics=["weight_feedback_cosine"])
    w, b = state["weight"].values[2].ravel(), moved[2].ravel()
    found = float(results["state/weight_feedback_cosine"].sel(layer="fc2", step=20, run="fa-seed0"))
    assert found == pytest.approx(w @ b / np.linalg.norm(w) / np.linalg.norm(b), abs=1e-6)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(NotAStoreError, match="no such file or directory"):
        analyze(tmp_path / "gone.zarr")
    with RunWriter(tmp_path / "empty.zarr", manifest={}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
    with pytest.raises(StoreError, match="is empty: no step was committed to any stream"):
        analyze(tmp_path / "empty.zarr")


def test_memory_does_not_grow_with_the_store(tmp_path):
    peaks = []
    for records in (16, 64):
        x = np.random.default_rng(0).standard_normal((1, 256, 1024)).astype(np.float32)  # 1 MiB a record
        path = tmp_path / f"{records}.zarr"
        with RunWriter(path, manifest={}) as writer:
            writer.declare_stream("probe", attrs={"kind": "probe"})
            writer.declare("probe", "fc", "error", ArraySpec(("sample", "out"), x.shape[1:], "float32"))
            for step in range(records):
                writer.append("probe", step, {("fc", "error"): x[0].copy()})
        with ThreadPoolExecutor(1) as one:
            tracemalloc.start()
            analyze(path, metrics=["error_effective_samples"], executor=one)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * 2**20
