"""Opening a run: lazily, with dask, and what cannot be opened."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import DamagedError, NotAStoreError, SchemaError, StoreError
from fadiag.store import (
    RunWriter,
    inspect_run,
    open_run,
    run_info,
)
from tests.store.runs import SPEC, record, values


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


def test_an_empty_run_is_an_error(tmp_path: Path) -> None:
    record(tmp_path / "run.zarr", steps=0)
    with pytest.raises(
        StoreError, match=r"run\.zarr is empty: no step was committed to any stream \(complete\)"
    ):
        open_run(tmp_path / "run.zarr")
    assert inspect_run(tmp_path / "run.zarr").streams[0].records == 0


def test_a_folder_that_went_away_is_an_error(tmp_path: Path, run: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(run, copy)
    tree = open_run(copy)
    array = next(a for node in tree.subtree for a in node.to_dataset(inherit=False).data_vars.values())
    shutil.rmtree(copy)
    with pytest.raises(
        DamagedError, match=r"cannot be read: No such file or directory; was the store moved\?"
    ):
        _ = array.values
