"""Compaction, verification and export: the same bits, and damage that is named."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import DamagedError, StoreError
from fadiag.store import (
    ArraySpec,
    RunWriter,
    compact,
    export_netcdf,
    inspect_run,
    open_run,
    run_info,
    verify_run,
)
from fadiag.store.read import xarray_backend
from fadiag.store.tools import export


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.zarr"
    rng = np.random.default_rng(0)
    with RunWriter(path, manifest={"meta": {"seed": 1, "condition": "fa"}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        writer.declare("probe", "fc.1", "error", ArraySpec(("sample", "out"), (7, 5), "float32"))
        writer.declare("probe", "dead", "error", ArraySpec(("sample", "out"), (7, 5), "float32"))
        writer.declare("probe", "big", "error", ArraySpec(("out", "in"), (1100, 1000), "float32"))
        writer.put_static("fc.1", "weight_init", rng.standard_normal((5, 4)), dims=("out", "in"))
        for step in range(0, 60, 10):
            writer.append(
                "probe",
                step,
                {
                    ("fc.1", "error"): rng.standard_normal((7, 5)).astype(np.float32),
                    ("dead", "error"): np.zeros((7, 5), np.float32),
                    ("big", "error"): np.full((1100, 1000), step, np.float32),
                },
                extra={"loss": step / 3},
            )
    return path


@pytest.fixture(scope="module")
def sealed(recorded: Path) -> Path:
    compact(recorded, recorded.with_name("sealed.zarr"))
    return recorded.with_name("sealed.zarr")


def same(first: xr.DataTree, second: xr.DataTree) -> None:
    assert {node.path for node in first.subtree} == {node.path for node in second.subtree}
    for node in first.subtree:
        other = second[node.path].to_dataset()
        xr.testing.assert_identical(node.to_dataset().drop_attrs(deep=False), other.drop_attrs(deep=False))


@pytest.mark.parametrize("opened", [open_run, lambda path: xr.open_datatree(path, engine="zarr")])
def test_compaction_keeps_every_bit(recorded: Path, sealed: Path, opened: object) -> None:
    same(open_run(recorded), opened(sealed))  # type: ignore[operator]
    assert run_info(sealed).status == "sealed"
    assert run_info(sealed).run_id == run_info(recorded).run_id
    assert run_info(sealed).manifest == run_info(recorded).manifest
    assert verify_run(sealed).problems == ()
    assert inspect_run(sealed).streams[0].records == 6
    # a dead layer is data, not an absence
    assert list((sealed / "probe/dead/error").glob("c.*"))


def test_compaction_keeps_what_tells_filler_from_data(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=2)
        for step in range(5):
            writer.append("s", step, {})
        writer.flush()
        writer.declare("s", "a", "n", ArraySpec((), (), "int64"))
        writer.append("s", 5, {("a", "n"): np.array(7)})
    compact(tmp_path / "run.zarr", tmp_path / "sealed.zarr")
    same(open_run(tmp_path / "run.zarr"), open_run(tmp_path / "sealed.zarr"))
    assert open_run(tmp_path / "sealed.zarr")["s/a/n"].attrs["declared_at"] == 5
    (tmp_path / "sealed.zarr/s/a/n/c.0").unlink()  # a shard is there whatever it tells of
    with pytest.raises(DamagedError, match=r"chunk c\.0 of s/a/n is missing"):
        _ = open_run(tmp_path / "sealed.zarr")["s/a/n"].values


def test_sealed_refuses(recorded: Path, sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was compacted and is sealed; resume the store it was made from"):
        RunWriter(sealed, manifest={}, resume=True)
    with pytest.raises(StoreError, match="is sealed already"):
        compact(sealed, tmp_path / "again.zarr")
    with pytest.raises(StoreError, match=r"sealed\.zarr exists; compaction writes a new store"):
        compact(recorded, sealed)
    with RunWriter(tmp_path / "live.zarr", manifest={}), pytest.raises(StoreError, match="is being recorded"):
        compact(tmp_path / "live.zarr", tmp_path / "copy.zarr")


def test_a_flipped_bit_names_array_and_chunk(sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sealed.zarr"
    shutil.copytree(sealed, copy)
    chunk = copy / "probe/fc.1/error/c.0.0.0"
    data = bytearray(chunk.read_bytes())
    for position in (3, len(data) // 2, len(data) - 3):
        flipped = bytearray(data)
        flipped[position] ^= 1
        chunk.write_bytes(flipped)
        problems = verify_run(copy).problems
        assert len(problems) == 1
        assert "chunk c.0.0.0 of probe/fc.1/error is damaged" in problems[0]


def test_verify_finds_missing_and_short_files(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.zarr"
    shutil.copytree(recorded, copy)
    os.truncate(copy / "probe/fc.1/error/c.0.0.0", 100)
    (copy / "probe/big/error/c.3.1.0").unlink()
    found = verify_run(copy)
    assert len(found.problems) == 2
    assert any(
        "chunk c.0.0.0 of probe/fc.1/error has 100 bytes instead of" in line for line in found.problems
    )
    assert any("chunk c.3.1.0 of probe/big/error is missing" in line for line in found.problems)
    with pytest.raises(DamagedError, match=r"\(and 1 more problems\)"):
        found.raise_problems()
    with pytest.raises(DamagedError):
        compact(copy, tmp_path / "sealed.zarr")
    assert not (tmp_path / "sealed.zarr").exists()


def test_reading_a_missing_chunk_is_an_error_and_no_nan(recorded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.zarr"
    shutil.copytree(recorded, copy)
    (copy / "probe/big/error/c.3.1.0").unlink()
    error = open_run(copy)["probe/big/error"]
    assert (error[2] == 20).all()
    with pytest.raises(DamagedError, match=r"chunk c\.3\.1\.0 of probe/big/error is missing"):
        _ = error[3].values


def test_netcdf_holds_the_same(recorded: Path, sealed: Path, tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    for source in (recorded, sealed):
        dest = tmp_path / f"{source.stem}.nc"
        export_netcdf(source, dest)
        with xr.open_datatree(dest, engine="netcdf4") as tree:
            run = open_run(source)
            for name in ("probe/fc.1/error", "probe/dead/error", "probe/loss", "probe/step"):
                np.testing.assert_array_equal(tree[name].values, run[name].values)
            np.testing.assert_array_equal(
                tree["probe/big/error"][-1, ::100], run["probe/big/error"][-1, ::100]
            )
            np.testing.assert_array_equal(
                tree["static/fc.1/weight_init"].values, run["static/fc.1/weight_init"].values
            )
            assert tree["probe/fc.1"].attrs["name"] == "fc.1"
            assert tree.attrs["run_id"] == run.attrs["run_id"]
        with pytest.raises(StoreError, match="exists; take another path"):
            export_netcdf(source, dest)


@pytest.mark.parametrize("layer", ["(root)", "_fc", "ü", "step", "-x", ".."])
def test_netcdf_takes_any_layer(tmp_path: Path, layer: str) -> None:
    pytest.importorskip("netCDF4")
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", layer, "x", ArraySpec(("out",), (2,), "float32"))
        writer.append("s", 0, {(layer, "x"): np.array([1, 2], np.float32)})
    export_netcdf(tmp_path / "run.zarr", tmp_path / "run.nc")
    with xr.open_datatree(tmp_path / "run.nc", engine="netcdf4") as tree:
        (node,) = tree["s"].children.values()
        assert node.attrs["name"] == ("" if layer == "(root)" else layer)
        assert node["x"].values.tolist() == [[1, 2]]


def test_netcdf_takes_any_type_and_attribute(tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    attrs = {"kind": "probe", "live": True, "shape": [3, 4], "none": None, "text": "", "rate": 0.5}
    with RunWriter(tmp_path / "run.zarr", manifest={"meta": {"seed": 1}}) as writer:
        writer.declare_stream("s", attrs=attrs)
        for dtype in ("bool", "float16", "uint64"):
            writer.declare("s", "a", f"x_{dtype}", ArraySpec(("out",), (2,), dtype))
        arrays = {("a", f"x_{dtype}"): np.array([0, 1], dtype) for dtype in ("bool", "float16", "uint64")}
        writer.append("s", 0, arrays)
    export_netcdf(tmp_path / "run.zarr", tmp_path / "run.nc")
    with xr.open_datatree(tmp_path / "run.nc", engine="netcdf4") as tree:
        for dtype, stored in (("bool", "bool"), ("float16", "float32"), ("uint64", "uint64")):
            array = tree[f"s/a/x_{dtype}"]
            assert (array.dtype, array.values.tolist()) == (np.dtype(stored), [[0, 1]])
        told = {**attrs, "live": 1, "shape": "[3, 4]", "none": "null"}
        assert {name: tree["s"].attrs[name] for name in attrs} == told
        assert json.loads(tree.attrs["manifest"]) == {"meta": {"seed": 1}}


def test_a_large_array_is_exported_chunk_by_chunk(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("netCDF4")
    pytest.importorskip("dask")
    monkeypatch.setattr(export, "_LARGE", 2**22)
    sizes = []
    read = xarray_backend.read_array

    def counted(*given: object) -> np.ndarray:
        values = read(*given)  # type: ignore[arg-type]
        sizes.append(values.nbytes)
        return values

    monkeypatch.setattr(xarray_backend, "read_array", counted)
    export_netcdf(recorded, tmp_path / "run.nc")
    assert max(sizes) <= 2**22  # a record of "big" has 4.4 MB, and is two chunks
    with xr.open_datatree(tmp_path / "run.nc", engine="netcdf4") as tree:
        np.testing.assert_array_equal(tree["probe/big/error"], open_run(recorded)["probe/big/error"])


@pytest.fixture
def full_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("300k")


@pytest.mark.parametrize(("write", "name"), [(export_netcdf, "run.nc"), (compact, "sealed.zarr")])
def test_a_full_disk_is_told_and_nothing_is_left(
    tmp_path: Path, full_disk: Path, write: Callable[[Path, Path], None], name: str
) -> None:
    pytest.importorskip("netCDF4")
    noise = np.random.default_rng(0).standard_normal((6, 10_000))  # not to be compressed away
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", ArraySpec(("out",), (10_000,), "float64"))
        for step, values in enumerate(noise):
            writer.append("s", step, {("a", "x"): values})
    with pytest.raises(StoreError, match=rf"{name} cannot be written: "):
        write(tmp_path / "run.zarr", full_disk / name)
    assert list(full_disk.iterdir()) == []


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server")
    obstore = pytest.importorskip("obstore.store")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    patch = pytest.MonkeyPatch()
    for key, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        patch.setenv(key, value)
    import urllib.request

    request = urllib.request.Request(f"{endpoint}/runs", method="PUT")
    urllib.request.urlopen(request).close()
    assert obstore
    yield endpoint
    patch.undo()
    server.stop()


def test_compaction_into_an_object_store(recorded: Path, bucket: str) -> None:
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    compact(recorded, "s3://runs/first/run.zarr")
    store = ObjectStore(
        from_url("s3://runs/first/run.zarr", client_options={"allow_http": True}), read_only=True
    )
    same(open_run(recorded), xr.open_datatree(store, engine="zarr"))  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="holds objects already"):
        compact(recorded, "s3://runs/first/run.zarr")
    with pytest.raises(StoreError, match=r"s3://nowhere/run\.zarr cannot be (reached|written)"):
        compact(recorded, "s3://nowhere/run.zarr")
