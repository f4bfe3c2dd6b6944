"""A reader of the format in plain numpy and json, written from docs/store-format.md alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from fadiag.store import ArraySpec, RunWriter, open_run

# -- the reader ---------------------------------------------------------------------------------------------


def read_array(store: Path, path: str) -> np.ndarray:
    """Read one array of a store that was not compacted."""
    root = json.loads((store / "zarr.json").read_text())
    assert root["attributes"]["fadiag_schema"] == 3
    meta = root["consolidated_metadata"]["metadata"][path]
    chunk = meta["chunk_grid"]["configuration"]["chunk_shape"]
    dtype = np.dtype(meta["data_type"]).newbyteorder("<")
    fill = (
        {"NaN": np.nan}.get(meta["fill_value"], meta["fill_value"])
        if dtype.kind == "f"
        else meta["fill_value"]
    )
    out = np.full(meta["shape"], fill, dtype)
    grid = [-(-n // c) for n, c in zip(meta["shape"], chunk, strict=True)]
    for index in np.ndindex(*grid):
        file = store / path / ".".join(["c", *map(str, index)])
        if not file.exists():  # only before the array was declared
            assert (index[0] + 1) * chunk[0] <= meta["attributes"]["declared_at"]
            continue
        block = np.fromfile(file, dtype).reshape(chunk)
        where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
        target = out[where]
        target[...] = block[tuple(slice(n) for n in target.shape)]
    return out


def list_arrays(store: Path) -> list[str]:
    """Name the arrays of a store."""
    root = json.loads((store / "zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    return [path for path, node in nodes.items() if node["node_type"] == "array"]


# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False])
def test_plain_reader_agrees(tmp_path: Path, live: bool) -> None:
    path = tmp_path / "run.zarr"
    rng = np.random.default_rng(0)
    writer = RunWriter(path, manifest={})
    writer.declare_stream("s", attrs={}, planned=4)
    writer.declare("s", "a", "small", ArraySpec(("out",), (3,), "float32"))
    writer.declare("s", "a", "count", ArraySpec((), (), "int64"))
    writer.declare("s", "b", "big", ArraySpec(("out", "in"), (1100, 1000), "float32"))
    writer.put_static("a", "weight_init", rng.standard_normal((3, 4)), dims=("out", "in"))
    for step in range(10):
        if step == 6:
            writer.flush()
            writer.declare("s", "late", "x", ArraySpec(("out",), (2,), "float64"))
        values = {
            ("a", "small"): rng.standard_normal(3).astype(np.float32),
            ("a", "count"): np.int64(step) + np.zeros((), np.int64),
        }
        if step % 3 == 0:
            values["b", "big"] = rng.standard_normal((1100, 1000)).astype(np.float32)
        if step >= 6:
            values["late", "x"] = rng.standard_normal(2)
        writer.append("s", step, values)
    writer.flush() if live else writer.close()
    tree = open_run(path)
    assert len(list_arrays(path)) == 9
    for name in list_arrays(path):
        np.testing.assert_array_equal(read_array(path, name), tree[name].values)
    if live:
        writer.close()


def test_zarr_alone_agrees(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.append("s", 3, {}, extra={"loss": 0.25})
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["s/loss"][:], [0.25])
    np.testing.assert_array_equal(read_array(path, "s/loss"), [0.25])
