"""Small records wait for the commit, then go to their file in one piece."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fadiag
from fadiag.store import ArraySpec, RunWriter
from fadiag.store.layout import ArrayLayout, plan_array
from fadiag.store.write import files
from fadiag.store.write.small_records import SmallRecords

PAIR = plan_array(ArraySpec(("x",), (2,), "float32"), stepped=True, planned=3)


def collected() -> tuple[SmallRecords, list[tuple[str, int, list[float]]]]:
    written: list[tuple[str, int, list[float]]] = []

    def write(path: str, layout: ArrayLayout, first: int, data: memoryview) -> None:
        written.append((path, first, np.frombuffer(data, np.float32).tolist()))

    return SmallRecords(write), written


def pair(value: float) -> memoryview:
    return memoryview(np.full(2, value, np.float32).tobytes())


def test_records_of_one_chunk_are_written_in_one_piece() -> None:
    small, written = collected()
    for record in range(4):  # a chunk has three
        small.add("a", PAIR, record, pair(record))
        small.add("b", PAIR, record, pair(10 + record))
    assert written == [("a", 0, [0, 0, 1, 1, 2, 2]), ("b", 0, [10, 10, 11, 11, 12, 12])]
    small.write()
    assert written[2:] == [("a", 3, [3, 3]), ("b", 3, [13, 13])]
    small.write()
    assert len(written) == 4


def test_what_was_not_recorded_and_what_is_short_are_filled_up() -> None:
    small, written = collected()
    small.add("a", PAIR, 0, None)
    small.add("a", PAIR, 1, pair(1.0)[:4])
    small.write()
    (_, _, values) = written[0]
    np.testing.assert_array_equal(values, [np.nan, np.nan, 1.0, np.nan])


def test_no_more_than_the_limit_waits() -> None:
    small, written = collected()
    layout = plan_array(ArraySpec(("x",), (1024,), "float32"), stepped=True)
    assert SmallRecords.takes(layout)
    for record in range(1025):
        small.add("a", layout, record, memoryview(bytes(4096)))
    assert sum(len(values) * 4 for _, _, values in written) >= 2**22
    assert not SmallRecords.takes(plan_array(ArraySpec(("x",), (1025,), "float32"), stepped=True))


def test_what_could_not_be_written_still_waits() -> None:
    failing = [True]
    written = []

    def write(path: str, layout: ArrayLayout, first: int, data: memoryview) -> None:
        if failing[0]:
            raise OSError(28, "No space left on device")
        written.append((first, len(data)))

    small = SmallRecords(write)
    small.add("a", PAIR, 0, pair(0.0))
    with pytest.raises(OSError, match="No space"):
        small.write()
    failing[0] = False
    small.add("a", PAIR, 1, pair(1.0))
    small.write()
    assert written == [(0, 16)]


def test_a_file_is_opened_once_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    true_open = os.open

    def counting(path: str, *arguments: int) -> int:
        opened[str(path).removeprefix(f"{tmp_path}/run.zarr/")] += 1
        return true_open(path, *arguments)

    with RunWriter(tmp_path / "run.zarr", manifest={}, commit_every=3600) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        writer.declare("probe", "fc", "norm", ArraySpec(("x",), (2,), "float32"))
        monkeypatch.setattr(files.os, "open", counting)
        for step in range(50):
            writer.append("probe", step, {("fc", "norm"): np.full(2, step, np.float32)})
        writer.flush()
        assert {opened[f"probe/{name}"] for name in ("fc/norm/c.0.0", "step/c.0", "epoch/c.0")} == {1}
    norm = fadiag.open_run(tmp_path / "run.zarr")["probe/fc/norm"]
    assert norm.values[:, 1].tolist() == list(range(50))
