"""Readers get the bits that were written: fadiag, plain xarray and zarr."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fadiag.store import (
    ArraySpec,
    RunWriter,
    open_run,
    run_info,
    verify_run,
)
from tests.store.runs import SPEC, values


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


def test_a_record_beyond_the_chunk_target_is_split(tmp_path: Path) -> None:
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


def test_a_run_that_ends_in_an_exception_is_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunWriter(tmp_path / "run.zarr", manifest={}):
        raise ZeroDivisionError
    assert run_info(tmp_path / "run.zarr").status == "failed"


def test_store_imports_neither_torch_nor_xarray() -> None:
    code = "import fadiag.store, sys; print(sorted({'torch', 'xarray', 'zarr'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
