"""What is written is what is read, bit for bit, by fadiag, by plain xarray and by zarr; bad input is told."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fadiag.errors import DamagedError, InputError, NotAStoreError, SchemaError, StoreError
from fadiag.store import (
    ArraySpec,
    RunWriter,
    inspect_run,
    layer_key,
    layer_name,
    open_run,
    run_info,
    verify_run,
)

SPEC = ArraySpec(("sample", "out"), (6, 3), "float32")


def record(path: Path, steps: int = 5, **options: object) -> None:
    with RunWriter(path, manifest={"meta": {"seed": 3}}, **options) as writer:  # type: ignore[arg-type]
        writer.declare_stream("probe", attrs={"kind": "probe", "mode": "eval"})
        writer.declare("probe", "fc.1", "error", SPEC, layer_attrs={"order": 0})
        for step in range(steps):
            writer.append("probe", step * 10, {("fc.1", "error"): values(step)}, epoch=step / 2)


def values(step: int) -> np.ndarray:
    return np.random.default_rng(step).standard_normal((6, 3)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record(tmp_path / "run.zarr")
    return tmp_path / "run.zarr"


@pytest.mark.parametrize("opened", [open_run, lambda path: xr.open_datatree(path, engine="zarr")])
def test_read_back(run: Path, opened: object) -> None:
    tree = opened(run)  # type: ignore[operator]
    error = tree["probe/fc.1/error"]
    assert error.dims == ("step", "sample", "out")
    np.testing.assert_array_equal(error.values, np.stack([values(step) for step in range(5)]))
    np.testing.assert_array_equal(error["step"], [0, 10, 20, 30, 40])
    np.testing.assert_array_equal(tree["probe"]["epoch"], [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(tree["probe"]["rows_valid"], [6] * 5)
    assert set(tree["probe"].coords) == {"step", "wall_time", "epoch", "rows_valid"}
    assert tree.attrs["manifest"] == {"meta": {"seed": 3}}
    assert tree["probe/fc.1"].attrs == {"name": "fc.1", "order": 0}


def test_unconsolidated_readers_see_everything_after_close(run: Path) -> None:
    tree = xr.open_datatree(run, engine="zarr", consolidated=False)
    assert tree["probe/fc.1/error"].shape == (5, 6, 3)


def test_open_run_is_lazy(run: Path) -> None:
    tree = open_run(run)
    chunk = run / "probe/fc.1/error/c.0.0.0"
    chunk.write_bytes(bytes(chunk.stat().st_size))  # what was not read yet is read now
    assert not tree["probe/fc.1/error"].values.any()


def test_open_run_with_dask_takes_whole_chunks(run: Path) -> None:
    pytest.importorskip("dask")
    error = open_run(run, chunks={})["probe/fc.1/error"]
    assert error.chunks is not None
    np.testing.assert_array_equal(error.values[2], values(2))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), max_size=3),
    dtype=st.sampled_from(["float32", "float64", "int64", "bool", "float16", "uint8"]),
    present=st.lists(st.booleans(), min_size=1, max_size=12),
    planned=st.sampled_from([None, 1, 3]),
)
def test_any_shape_dtype_and_pattern_of_absence(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    dtype: str,
    present: list[bool],
    planned: int | None,
) -> None:
    path = tmp_path_factory.mktemp("any") / "run.zarr"
    dims = tuple(f"d{i}" for i in range(len(shape)))
    rng = np.random.default_rng(len(present))
    rows = [rng.integers(0, 2, shape).astype(dtype) for _ in present]
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=planned)
        writer.declare("s", "a", "x", ArraySpec(dims, tuple(shape), dtype))
        for step, (row, there) in enumerate(zip(rows, present, strict=True)):
            writer.append("s", step, {("a", "x"): row.copy()} if there else {})
    fill = np.nan if dtype.startswith("float") else 0
    wanted = np.stack([r if p else np.full(shape, fill, dtype) for r, p in zip(rows, present, strict=True)])
    read = open_run(path)["s/a/x"].values
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, wanted)
    assert verify_run(path).problems == ()


def test_slab_beyond_the_chunk_target_is_split(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    big = np.random.default_rng(0).standard_normal((2, 1500, 1000)).astype(np.float32)
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("state", attrs={})
        writer.declare("state", "fc", "weight", ArraySpec(("out", "in"), (1500, 1000), "float32"))
        writer.put_static("fc", "weight_init", big[0].astype(np.float64), dims=("out", "in"))
        for step in (0, 1):
            writer.append("state", step, {("fc", "weight"): big[step].copy()})
        writer.append("state", 2, {})
    tree = open_run(path)
    np.testing.assert_array_equal(tree["state/fc/weight"][:2], big)
    assert np.isnan(tree["state/fc/weight"][2]).all()
    np.testing.assert_array_equal(tree["static/fc/weight_init"], big[0])
    assert len(list((path / "state/fc/weight").glob("c.*"))) == 6


def test_fewer_samples_are_padded_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("live", attrs={})
        writer.declare("live", "a", "x", SPEC)
        writer.append("live", 0, {("a", "x"): values(0)})
        writer.append("live", 1, {("a", "x"): values(1)[:4]})
    live = open_run(path)["live/a"]
    np.testing.assert_array_equal(live["x"][1, :4], values(1)[:4])
    assert np.isnan(live["x"][1, 4:]).all()
    np.testing.assert_array_equal(open_run(path)["live"]["rows_valid"], [6, 4])


def test_late_declaration_reads_as_fill_before(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=3)  # three records a chunk
        for step in range(5):
            writer.append("s", step, {})
        writer.flush()
        writer.declare("s", "late", "x", SPEC)
        for step in range(5, 8):
            writer.append("s", step, {("late", "x"): values(step)})
    read = open_run(path)["s/late/x"].values
    assert np.isnan(read[:5]).all()
    np.testing.assert_array_equal(read[5:], np.stack([values(step) for step in range(5, 8)]))
    assert verify_run(path).problems == ()


def test_live_store_shows_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}, commit_every=60) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        writer.append("s", 0, {("a", "x"): values(0)})
        writer.flush()
        before = open_run(path)
        assert run_info(path).status == "recording"
        for step in (1, 2):
            writer.append("s", step, {("a", "x"): values(step)})
        writer.flush()
        assert before["s/a/x"].sizes["step"] == 1
        np.testing.assert_array_equal(before["s/a/x"][0], values(0))
        assert open_run(path)["s/a/x"].sizes["step"] == 3
        assert xr.open_datatree(path, engine="zarr")["s/a/x"].sizes["step"] == 3
    assert run_info(path).status == "complete"


def test_a_run_that_ends_in_an_exception_is_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunWriter(tmp_path / "run.zarr", manifest={}):
        raise ZeroDivisionError
    assert run_info(tmp_path / "run.zarr").status == "failed"


def test_buffers_go_round(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        buffer = writer.buffer((6, 3), "float32")
        address = buffer.ctypes.data
        buffer[:] = 7
        writer.append("s", 0, {("a", "x"): buffer})
        writer.flush()
        assert writer.buffer((6, 3), "float32").ctypes.data == address
    assert (open_run(tmp_path / "run.zarr")["s/a/x"].values == 7).all()


def test_inspect_tells_gaps_sizes_and_nan_counts(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={"meta": {}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        writer.declare("probe", "b", "error", SPEC, layer_attrs={"order": 1})
        writer.declare("probe", "a", "error", SPEC, layer_attrs={"order": 0})
        writer.put_static("a", "weight_init", np.ones((3, 2)), dims=("out", "in"))
        for step in (0, 5, 10, 25, 30):
            writer.append("probe", step, {("a", "error"): values(step)}, extra={"loss": 1.0})
        writer.set_attrs("probe/a/error", {"nan_count": 17})
    summary = inspect_run(path)
    probe, static = summary.streams
    assert (probe.records, probe.first_step, probe.last_step, probe.every) == (5, 0, 30, 5)
    assert probe.gaps == ((10, 25),)
    assert [layer.name for layer in probe.layers] == ["a", "b"]
    assert probe.layers[0].signals[0].nan_count == 17
    assert probe.layers[1].signals[0].nan_count is None
    assert probe.layers[0].signals[0].shape == (5, 6, 3)
    assert [signal.name for signal in probe.signals] == ["loss"]
    assert static.layers[0].signals[0].nbytes == 48
    assert summary.info.status == "complete"
    assert summary.stored_bytes == probe.stored_bytes + static.stored_bytes > 0


@given(name=st.text(max_size=300).filter(lambda name: name != "(root)"))
def test_layer_keys_are_safe_and_distinct(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    key = layer_key(name)
    assert 0 < len(key) <= 200
    assert key.isascii()
    assert "/" not in key
    assert key[0] not in "._"
    assert key not in {"step", "wall_time", "epoch", "rows_valid", "zarr.json", "c"}
    if "~" not in key:
        assert layer_name(key) == name


def test_awkward_layer_names(tmp_path: Path) -> None:
    names = ["", "a/b", "..", "step", "ü", "x" * 500, "zarr.json", "a.b"]
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        for name in names:
            writer.declare("s", name or "(root)", "x", SPEC)
        writer.append("s", 0, {(name or "(root)", "x"): values(0) for name in names})
    tree = open_run(tmp_path / "run.zarr")
    assert {child.attrs["name"] for child in tree["s"].children.values()} == set(names)


def test_store_imports_neither_torch_nor_xarray() -> None:
    code = "import fadiag.store, sys; print(sorted({'torch', 'xarray', 'zarr'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_opened(tmp_path: Path, run: Path) -> None:
    with pytest.raises(NotAStoreError, match=r"nowhere\.zarr: no such file or directory"):
        open_run(tmp_path / "nowhere.zarr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAStoreError, match="file is a file, not a fadiag store"):
        open_run(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAStoreError, match=r"it holds no zarr\.json"):
        run_info(tmp_path / "folder")
    (tmp_path / "folder/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(NotAStoreError, match="a zarr group but no fadiag store"):
        inspect_run(tmp_path / "folder")
    root = run / "zarr.json"
    written = root.read_text()
    for schema, way_out in ((4, "upgrade fadiag to read it"), (1, "record the run again")):
        root.write_text(written.replace('"fadiag_schema":3', f'"fadiag_schema":{schema}'))
        with pytest.raises(SchemaError, match=f"has schema {schema}, this fadiag reads schema 3; {way_out}"):
            open_run(run)


def test_an_empty_run_is_told(tmp_path: Path) -> None:
    record(tmp_path / "run.zarr", steps=0)
    with pytest.raises(
        StoreError, match=r"run\.zarr is empty: no step was committed to any stream \(complete\)"
    ):
        open_run(tmp_path / "run.zarr")
    assert inspect_run(tmp_path / "run.zarr").streams[0].records == 0


def test_bad_records_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        writer.append("s", 10, {("a", "x"): values(0)})
        for step in (10, 3):
            with pytest.raises(
                InputError, match=rf"step {step} of stream 's' comes after step 10.*resume_from={step}"
            ):
                writer.append("s", step, {("a", "x"): values(0)})
        for wrong in (
            values(0).astype(np.float64),
            np.zeros((6, 4), np.float32),
            np.zeros((7, 3), np.float32),
        ):
            with pytest.raises(InputError, match=r"s/a/x was declared float32 \(6, 3\), this record has"):
                writer.append("s", 20, {("a", "x"): wrong})
        with pytest.raises(InputError, match="s/b/x was not declared"):
            writer.append("s", 20, {("b", "x"): values(0)})
        with pytest.raises(InputError, match="stream 'probe' is not declared; the streams are \\['s'\\]"):
            writer.append("probe", 20, {})
        with pytest.raises(InputError, match="give a whole number, 0 or more"):
            writer.append("s", -1, {})
        assert writer.last_step("s") == 10
    with pytest.raises(StoreError, match="is closed; open it again with resume=True"):
        writer.append("s", 20, {})
    assert open_run(tmp_path / "run.zarr")["s/a/x"].shape == (1, 6, 3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"extra": {"loss": np.array([1.0, 2.0])}}, r"scalar 'loss' is a ndarray; give a number .*array"),
        ({"extra": {"loss": None}}, r"scalar 'loss' is a NoneType; .* not None"),
        ({"extra": {"loss": "0.5"}}, r"scalar 'loss' is a str; .* not '0.5'"),
        ({"extra": {"new": 1.0, "loss": 10**400}}, r"scalar 'loss' is a int; .* not 1000"),
        ({"epoch": [0.5, 1.0]}, r"epoch is a list; .* not \[0.5, 1.0\]"),
        ({"epoch": "1/3"}, r"epoch is a str"),
        ({"wall_time": np.zeros(3)}, r"wall_time is a ndarray"),
        ({"rows_valid": np.array([1, 2])}, r"rows_valid array\(\[1, 2\]\): give a whole number, 0 or more"),
        ({"rows_valid": 1.5}, r"rows_valid 1.5: give a whole number"),
        ({"extra": {"vector": 1.0}}, r"log/vector was declared with shape \(4,\); give it in values"),
    ],
)
def test_a_coordinate_or_scalar_that_is_not_one_number_is_refused(
    tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("log", attrs={})
        writer.declare("log", "", "vector", ArraySpec(("out",), (4,), "float32"))
        writer.append("log", 0, {}, extra={"loss": np.float32(0.5)}, epoch=np.array(0.25))
        with pytest.raises(InputError, match=told):
            writer.append("log", 1, {}, **given)
        for step in (1, 2):
            writer.append("log", step, {}, extra={"loss": np.array([float(step)])}, epoch=step, rows_valid=3)
    log = open_run(path)["log"]
    assert log["loss"].values.tolist() == [0.5, 1, 2]
    assert log["epoch"].values.tolist() == [0.25, 1, 2]
    assert log["rows_valid"].values.tolist() == [0, 3, 3]
    assert set(log.data_vars) == {"vector", "loss"}


def test_bad_declarations_are_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}, buffer_bytes=10_000) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        with pytest.raises(InputError, match="s/a/x is declared twice"):
            writer.declare("s", "a", "x", SPEC)
        with pytest.raises(
            InputError, match="dimension 'out' has length 4, in s/a/x it has 3; give it another"
        ):
            writer.declare("s", "a", "y", ArraySpec(("out",), (4,), "float32"))
        with pytest.raises(
            InputError, match=r"'y' of layer 'big' has 12,000 bytes a record.*buffer_bytes=10,000; raise"
        ):
            writer.declare("s", "big", "y", ArraySpec(("out",), (3000,), "float32"))
        with pytest.raises(InputError, match=r"is not plain JSON: .*(NaN|nan|Out of range)"):
            writer.set_attrs("s/a", {"x": float("nan")})
        with pytest.raises(InputError, match="'s/z' is not in the store"):
            writer.set_attrs("s/z", {"x": 1})
        with pytest.raises(InputError, match=r"signal name '\.\./x'"):
            writer.declare("s", "a", "../x", SPEC)
        with pytest.raises(InputError, match="stream name 'a/b'"):
            writer.declare_stream("a/b", attrs={})
    with pytest.raises(InputError, match="dtype 'complex64' cannot be stored"):
        ArraySpec((), (), "complex64")
    with pytest.raises(
        StoreError, match=r"run\.zarr exists; resume it with resume=True, or take another path"
    ):
        RunWriter(tmp_path / "run.zarr", manifest={})
    with pytest.raises(InputError, match="manifest is not plain JSON"):
        RunWriter(tmp_path / "other.zarr", manifest={"a": np.float32(1)})
    assert not (tmp_path / "other.zarr").exists()


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({"meta": {"data": "/caf\udce9"}}, r"'/caf\\udce9' at 'meta'\['data'\] has bytes that are not UTF-8"),
        ({"config": {"x": [0, {"y": "\ud800"}]}}, r"'\\ud800' at 'config'\['x'\]\[1\]\['y'\] has bytes"),
        ({"meta": {"\udce9": 1}}, r"'\\udce9' at 'meta' has bytes"),
        ({"\udce9": 1}, r"manifest is not plain JSON: '\\udce9' has bytes"),
    ],
)
def test_a_text_that_is_not_utf8_is_refused_where_it_stands(
    tmp_path: Path, manifest: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        RunWriter(tmp_path / "run.zarr", manifest=manifest)
    assert not (tmp_path / "run.zarr").exists()
    with (
        RunWriter(tmp_path / "run.zarr", manifest={"meta": {"data": "/café/𝄞"}}) as writer,
        pytest.raises(InputError, match=r"attributes of stream 's' is not plain JSON: '\\udce9' at 'x'"),
    ):
        writer.declare_stream("s", attrs={"x": "\udce9"})
    assert run_info(tmp_path / "run.zarr").manifest["meta"] == {"data": "/café/𝄞"}


@pytest.mark.parametrize("name", ["c", "_aux", "__x"])
def test_a_name_that_no_reader_takes_is_refused_when_it_is_declared(tmp_path: Path, name: str) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("log", attrs={})
        with pytest.raises(InputError, match=f"signal name '{name}': use letters, digits and underscores"):
            writer.append("log", 0, {}, extra={name: 1.0})
        with pytest.raises(InputError, match=f"stream name '{name}'"):
            writer.declare_stream(name, attrs={})
        writer.append("log", 1, {}, extra={"loss": 1.0})
    assert open_run(tmp_path / "run.zarr")["log/loss"].values == [1.0]


def test_a_late_signal_counts_the_records_that_still_wait(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        writer.declare("s", "a", "x", ArraySpec(("out",), (3,), "float32"))
        with writer._mutex:  # the writer's thread cannot write while we append and declare
            for step in range(10):
                writer.append("s", step, {("a", "x"): np.full(3, step, np.float32)})
            writer.declare("s", "a", "late", ArraySpec(("out",), (3,), "int64"))
        writer.append("s", 10, {("a", "late"): np.arange(3)})
    late = open_run(path)["s/a/late"]
    assert late.attrs["declared_at"] == 10
    np.testing.assert_array_equal(late, [[0, 0, 0]] * 10 + [[0, 1, 2]])
    assert verify_run(path).problems == ()


@pytest.mark.parametrize("back", [0, 1, 4, 6, 9, 12])
def test_a_late_signal_survives_a_return_to_before_it(tmp_path: Path, back: int) -> None:
    path = tmp_path / "run.zarr"
    spec = ArraySpec(("out",), (3,), "float32")
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        writer.declare("s", "a", "x", spec)
        for step in range(10):
            writer.append("s", step, {("a", "x"): np.full(3, step, np.float32)})
        writer.flush()
        writer.declare("s", "a", "late", spec)
        for step in range(10, 14):
            writer.append("s", step, {("a", "late"): np.full(3, step, np.float32)})
    with RunWriter(path, manifest={}, resume_from=back) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        for signal in ("x", "late"):
            writer.declare("s", "a", signal, spec)
        assert verify_run(path).problems == ()
        for step in range(back, 14):
            writer.append("s", step, {("a", "late"): np.full(3, 100 + step, np.float32)})
    assert verify_run(path).problems == ()
    expected = [np.nan if s < 10 else s for s in range(back)] + [100 + s for s in range(back, 14)]
    np.testing.assert_array_equal(open_run(path)["s/a/late"][:, 0], np.array(expected, np.float32))


def test_a_folder_that_went_away_is_told(tmp_path: Path, run: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(run, copy)
    tree = open_run(copy)
    array = next(a for node in tree.subtree for a in node.to_dataset(inherit=False).data_vars.values())
    shutil.rmtree(copy)
    with pytest.raises(
        DamagedError, match=r"cannot be read: No such file or directory; was the store moved\?"
    ):
        _ = array.values
