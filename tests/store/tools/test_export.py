"""A run as netCDF: the same values, any layer name, any type."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import StoreError
from fadiag.store import (
    ArraySpec,
    RunWriter,
    export_netcdf,
    open_run,
)
from fadiag.store.read import xarray_backend
from fadiag.store.tools import export


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
        expected = {**attrs, "live": 1, "shape": "[3, 4]", "none": "null"}
        assert {name: tree["s"].attrs[name] for name in attrs} == expected
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
