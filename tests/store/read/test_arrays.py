"""Reading parts of arrays: what numpy gives, from raw files and from shards, and damage that is named."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from fadiag.errors import DamagedError
from fadiag.store import ArraySpec, RunWriter, compact, open_run
from fadiag.store.read.arrays import read_array
from fadiag.store.read.metadata import read_snapshot

RNG = np.random.default_rng(3)
SMALL = RNG.standard_normal((11, 6, 4)).astype(np.float32)
NUMBERS = RNG.integers(0, 9, (11,))
#: Each record is split along its first axis, with a short last block.
BIG = RNG.standard_normal((3, 1100, 1000)).astype(np.float32)


@pytest.fixture(scope="module", params=["raw", "sealed"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=4)  # three chunks of 4, the last one short
        writer.declare("s", "a", "x", ArraySpec(("sample", "out"), (6, 4), "float32"))
        writer.declare("s", "a", "n", ArraySpec((), (), "int64"))
        for step in range(11):
            writer.append("s", step, {("a", "x"): SMALL[step], ("a", "n"): NUMBERS[step]})
        writer.declare_stream("t", attrs={})
        writer.declare("t", "big", "x", ArraySpec(("out", "in"), (1100, 1000), "float32"))
        for step in range(3):
            writer.append("t", step, {("big", "x"): BIG[step]})
        writer.put_static("a", "w", BIG[0], dims=("out", "in"))
    if request.param == "raw":
        return path
    compact(path, path.with_name("sealed.zarr"))
    return path.with_name("sealed.zarr")


def keys(length: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(-length, length - 1),
        st.slices(length),
        st.lists(st.integers(0, length - 1), max_size=5).map(lambda x: np.array(x, np.intp)),
    )


@given(key=st.tuples(keys(11), keys(6), keys(4)))
def test_any_part_is_what_numpy_gives(run: Path, key: tuple[Any, ...]) -> None:
    snapshot = read_snapshot(run)
    expected = SMALL
    for axis in (2, 1, 0):  # from the last on, so that an int takes no axis away that is still to come
        expected = expected[(slice(None),) * axis + (key[axis],)]
    np.testing.assert_array_equal(read_array(run, snapshot.arrays["s/a/x"], key), expected)


@pytest.mark.parametrize(
    "key",
    [(1,), (slice(None), slice(1040, 1060)), (2, 1099, 999), (slice(None, None, -2), slice(3, None, 7))],
)
def test_a_split_record(run: Path, key: tuple[Any, ...]) -> None:
    snapshot = read_snapshot(run)
    np.testing.assert_array_equal(read_array(run, snapshot.arrays["t/big/x"], key), BIG[key])
    static = read_array(run, snapshot.arrays["static/a/w"], key[1:])
    np.testing.assert_array_equal(static, BIG[0][key[1:]])


def test_the_tree_is_that_of_plain_xarray(run: Path) -> None:
    ours, plain = open_run(run), xr.open_datatree(run, engine="zarr", mask_and_scale=False)
    for node in plain.subtree:
        dataset = ours[node.path].to_dataset()
        xr.testing.assert_identical(dataset, node.to_dataset())
        assert set(dataset.coords) == set(node.to_dataset().coords)


def test_chunks_and_pickle(run: Path) -> None:
    pytest.importorskip("dask")
    tree = open_run(run, chunks={})
    assert tree["s/a/x"].chunks is not None
    np.testing.assert_array_equal(tree["s/a/x"].compute(scheduler="synchronous"), SMALL)
    lazy = pickle.loads(pickle.dumps(open_run(run)["s/a/x"][2:9]))
    np.testing.assert_array_equal(lazy, SMALL[2:9])


def test_a_flipped_bit_is_an_error_where_it_is_read(tmp_path: Path, run: Path) -> None:
    if read_snapshot(run).attributes.status != "sealed":
        pytest.skip("raw chunks have no checksum; verify holds their lengths")
    copy = tmp_path / "run.zarr"
    shutil.copytree(run, copy)
    chunk = copy / "s/a/x/c.0.0.0"
    data = bytearray(chunk.read_bytes())
    for position in (3, len(data) // 2, len(data) - 3):
        flipped = bytearray(data)
        flipped[position] ^= 1
        chunk.write_bytes(flipped)
        with pytest.raises(DamagedError, match=r"chunk c\.0\.0\.0 of s/a/x is damaged \("):
            _ = open_run(copy)["s/a/x"].values
    np.testing.assert_array_equal(open_run(copy)["t/big/x"][2], BIG[2])
