"""One store a rank: read as one run, sample for sample, and refused where the stores are of several runs."""

import pickle
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from fadiag.errors import DamagedError, NotAStoreError, StoreError
from fadiag.store import ArraySpec, RunWriter, compact, inspect_run, open_run, rank_path
from fadiag.store.read.joined import JoinedBackend
from fadiag.store.read.ranks import read_ranks

RNG = np.random.default_rng(5)
#: Steps, the length of a record and its valid rows, by rank. Rank 1 lacks step 3 and has a step 9.
STEPS = ([0, 1, 2, 3, 4], [0, 1, 2, 4, 9], [0, 1, 2, 3, 4])
LENGTHS = (4, 3, 5)
VALID = ([4, 4, 2, 4, 1], [3, 1, 0, 3, 3], [5, 2, 5, 5, 4])
VALUES = [RNG.standard_normal((5, length, 2, 3)).astype(np.float32) for length in LENGTHS]


def record(
    folder: Path, rank: int, *, size: int = 3, run: str = "a", dims: tuple[str, ...] = ("sample", "x", "out")
) -> None:
    told = {"ranks": {"rank": rank, "size": size, "run": run}}
    with RunWriter(rank_path(folder, rank), manifest=told) as writer:
        writer.declare_stream("live", attrs={"kind": "live", "loss_reduction": "as trained"}, planned=2)
        writer.declare("live", "fc", "error", ArraySpec(dims, VALUES[rank].shape[1:], "float32"))
        writer.declare_stream("log", attrs={"kind": "log"})
        for row, step in enumerate(STEPS[rank]):
            valid = VALID[rank][row]
            writer.append("live", step, {("fc", "error"): VALUES[rank][row].copy()}, rows_valid=valid)
            writer.append("log", step, {}, extra={"loss": 10.0 * rank + step})
        writer.put_static("fc", "feedback", VALUES[rank][0, 0], dims=("out", "in"))


def expected() -> np.ndarray[Any, Any]:
    """Joined by hand: at the steps that all have, the valid rows by rank, then NaN."""
    whole = np.full((4, sum(LENGTHS), 2, 3), np.nan, np.float32)
    for at, step in enumerate([0, 1, 2, 4]):
        rows = []
        for rank in range(3):
            row = STEPS[rank].index(step)
            rows += list(VALUES[rank][row, : VALID[rank][row]])
        whole[at, : len(rows)] = rows
    return whole


@pytest.fixture(scope="module", params=["raw", "sealed"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    for rank in range(3):
        record(made / "raw", rank)
        if request.param == "sealed":
            compact(rank_path(made / "raw", rank), rank_path(made / "sealed", rank))
    return made / str(request.param)


def test_live_samples_stand_one_below_the_other(run: Path) -> None:
    tree = open_run(run)
    assert tree["live/fc/error"].dims == ("step", "sample", "x", "out")
    np.testing.assert_array_equal(tree["live/step"], [0, 1, 2, 4])
    np.testing.assert_array_equal(tree["live/rows_valid"], [12, 7, 7, 8])
    np.testing.assert_array_equal(tree["live/fc/error"], expected())
    np.testing.assert_array_equal(tree["live/fc/error"].sel(step=4)[3], expected()[3, 3])
    assert tree["live"].attrs["loss_reduction"] == "as trained on each rank"
    assert tree.attrs["committed"] == {"live": 4, "log": 5}
    assert tree.attrs["ranks"] == 3


def test_all_else_is_rank_0s(run: Path) -> None:
    tree = open_run(run)
    np.testing.assert_array_equal(tree["log/loss"], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(tree["static/fc/feedback"], VALUES[0][0, 0])
    first = open_run(rank_path(run, 0))
    assert tree.attrs["run_id"] == first.attrs["run_id"]
    assert "ranks" not in first.attrs


def test_chunks_are_lazy_and_the_same(run: Path) -> None:
    lazy = open_run(run, chunks={})["live/fc/error"]
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, expected())


@cache
def opened(run: Path) -> xr.DataTree:
    return JoinedBackend().open_datatree(read_ranks(run))


def test_a_worker_gets_the_way_to_the_values_and_not_the_values(run: Path) -> None:
    array = open_run(run)["live/fc/error"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), expected())


def keys(length: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(-length, length - 1),
        # xarray itself fails at an empty slice with a negative step.
        st.slices(length).filter(lambda s: s.step is None or s.step > 0),
        st.lists(st.integers(0, length - 1), max_size=5).map(lambda x: np.array(x, np.intp)),
    )


@settings(deadline=None)
@given(key=st.tuples(keys(4), keys(12), keys(2), keys(3)))
def test_any_part_is_what_numpy_gives(run: Path, key: tuple[Any, ...]) -> None:
    whole = expected()
    for axis in (3, 2, 1, 0):
        whole = whole[(slice(None),) * axis + (key[axis],)]
    part = opened(run)["live/fc/error"].isel(dict(zip(("step", "sample", "x", "out"), key, strict=True)))
    np.testing.assert_array_equal(part, whole)


def test_a_missing_or_foreign_rank_is_named(tmp_path: Path) -> None:
    for rank in range(2):
        record(tmp_path / "run", rank)
    with pytest.raises(StoreError, match=r"a run of 3 ranks and rank2\.zarr is missing; .*rank0\.zarr alone"):
        open_run(tmp_path / "run")
    record(tmp_path / "run", 2, run="b")
    with pytest.raises(StoreError, match=r"rank2\.zarr belongs to another run than .*rank0\.zarr"):
        open_run(tmp_path / "run")
    shutil.rmtree(rank_path(tmp_path / "run", 2))
    shutil.copytree(rank_path(tmp_path / "run", 1), rank_path(tmp_path / "run", 2))
    with pytest.raises(StoreError, match=r"rank2\.zarr belongs to another run"):
        open_run(tmp_path / "run")


def test_a_store_of_no_ranks_is_told(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "rank0.zarr", manifest={}) as writer:
        writer.declare_stream("log", attrs={})
        writer.append("log", 0, {}, extra={"loss": 1.0})
    with pytest.raises(StoreError, match=r"rank0\.zarr was not recorded with ranks='all'"):
        open_run(tmp_path)


@pytest.mark.parametrize("size", ["3", 0, -1, None])
def test_a_damaged_number_of_ranks_is_told(tmp_path: Path, size: Any) -> None:
    record(tmp_path, 0, size=size)
    with pytest.raises(StoreError, match="was not recorded with ranks='all'"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("dims", "message"),
    [(("sample", "y", "out"), "other models were recorded"), (("row", "x", "out"), r"not \(step, sample")],
)
def test_arrays_that_differ_are_refused(tmp_path: Path, dims: tuple[str, ...], message: str) -> None:
    record(tmp_path, 0, size=2)
    record(tmp_path, 1, size=2, dims=dims)
    with pytest.raises(DamagedError, match=message):
        open_run(tmp_path)


def test_rows_that_cannot_be_are_held_to_the_record(tmp_path: Path) -> None:
    told = {"ranks": {"rank": 0, "size": 1, "run": "a"}}
    with RunWriter(rank_path(tmp_path, 0), manifest=told) as writer:
        writer.declare_stream("live", attrs={"kind": "live"})
        writer.declare("live", "fc", "n", ArraySpec(("sample",), (3,), "int64"))
        for step, rows in enumerate((2, 9)):
            writer.append("live", step, {("fc", "n"): np.arange(1, 4)}, rows_valid=rows)
    chunk = rank_path(tmp_path, 0) / "live/rows_valid/c.0"
    chunk.write_bytes(np.int64(-2).tobytes() + chunk.read_bytes()[8:])  # as no writer writes it
    np.testing.assert_array_equal(open_run(tmp_path)["live/fc/n"], [[0, 0, 0], [1, 2, 3]])


def test_a_layer_with_rows_of_its_own_is_joined_by_them(tmp_path: Path) -> None:
    for rank, own in enumerate(([1.0, np.nan], None)):
        told = {"ranks": {"rank": rank, "size": 2, "run": "a"}}
        with RunWriter(rank_path(tmp_path, rank), manifest=told) as writer:
            writer.declare_stream("live", attrs={"kind": "live"})
            writer.declare("live", "fc", "n", ArraySpec(("sample",), (3,), "int64"))
            if own is not None:
                writer.declare("live", "fc", "rows", ArraySpec((), (), "float64"))
            for step in range(2):
                values = {("fc", "n"): np.arange(1, 4)}
                values |= {} if own is None else {("fc", "rows"): np.array(own[step])}
                writer.append("live", step, values, rows_valid=2)
    live = open_run(tmp_path)["live"]
    np.testing.assert_array_equal(live["fc/n"], [[1, 1, 2, 0, 0, 0], [1, 2, 1, 2, 0, 0]])
    np.testing.assert_array_equal(live["fc/rows"], [3, 4])
    np.testing.assert_array_equal(live["rows_valid"], [4, 4])


def test_inspect_names_the_ranks_to_name(tmp_path: Path) -> None:
    record(tmp_path, 0, size=1)
    with pytest.raises(NotAStoreError, match=r"holds one store a rank; name one of them, .*rank0\.zarr"):
        inspect_run(tmp_path)
    assert [stream.name for stream in inspect_run(rank_path(tmp_path, 0)).streams][:2] == ["live", "log"]
