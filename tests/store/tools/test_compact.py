"""Compaction: the same bits, sealed, and nothing left of a copy that failed."""

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


def test_compaction_keeps_the_first_record_of_a_late_signal(tmp_path: Path) -> None:
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
    (tmp_path / "sealed.zarr/s/a/n/c.0").unlink()  # every shard exists, also one of filler alone
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


@pytest.mark.parametrize(("write", "name"), [(export_netcdf, "run.nc"), (compact, "sealed.zarr")])
def test_a_full_disk_is_an_error_and_nothing_is_left(
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
