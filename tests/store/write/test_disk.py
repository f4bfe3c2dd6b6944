"""A disk that is full, gone or closed to writing, and a disk that is slow."""

import os
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fadiag.errors import StoreError
from fadiag.store import ArraySpec, RunWriter, inspect_run, open_run, verify_run
from fadiag.store.write.recording import Recording

SPEC = ArraySpec(("out",), (2**16,), "float32")


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("8m")


def writer_at(path: Path, **options: object) -> RunWriter:
    writer = RunWriter(path, manifest={}, **options)  # type: ignore[arg-type]
    writer.declare_stream("s", attrs={"kind": "probe"})
    writer.declare("s", "a", "x", SPEC)
    return writer


def append(writer: RunWriter, step: int) -> None:
    writer.append("s", step, {("a", "x"): np.full(SPEC.shape, step, np.float32)})


def test_full_disk_is_one_clear_error_and_keeps_what_was_committed(small_disk: Path) -> None:
    path = small_disk / "run.zarr"
    writer = writer_at(path)
    with pytest.raises(StoreError, match=r"run\.zarr cannot be written: No space left on device") as caught:  # noqa: PT012
        for step in range(100):
            append(writer, step)
            writer.flush()
    assert "records committed: s: " in str(caught.value)
    assert "\n" not in str(caught.value)
    writer.close()
    kept = open_run(path)["s/a/x"]
    assert kept.sizes["step"] >= 16
    np.testing.assert_array_equal(kept.values, np.arange(len(kept))[:, None] * np.ones(SPEC.shape))
    assert verify_run(path).problems == ()
    assert inspect_run(path).info.status == "killed"


def test_full_disk_is_a_warning_and_training_goes_on(small_disk: Path) -> None:
    path = small_disk / "run.zarr"
    writer = writer_at(path, on_failure="warn")
    with pytest.warns(RuntimeWarning, match="No space left.*the run goes on unrecorded") as caught:  # noqa: PT031
        for step in range(100):
            append(writer, step)
            writer.flush()
        writer.close()
    assert len(caught) == 1
    assert open_run(path)["s/a/x"].sizes["step"] >= 16


def test_a_run_that_cannot_fit_is_an_error_before_it_starts(small_disk: Path) -> None:
    def begin(**options: object) -> None:
        with RunWriter(small_disk / f"{len(options)}.zarr", manifest={}, **options) as writer:  # type: ignore[arg-type]
            writer.declare_stream("s", attrs={}, planned=1000)
            writer.declare("s", "a", "x", SPEC)
            append(writer, 0)

    with pytest.raises(StoreError, match=r"will write 262 MB; [\d.]+ MB are free: record fewer steps"):
        begin()
    with pytest.warns(RuntimeWarning, match="will write 262 MB"):
        begin(on_failure="warn")


@pytest.mark.parametrize("on_failure", ["raise", "warn"])
def test_store_deleted_under_the_writer(tmp_path: Path, on_failure: str) -> None:
    path = tmp_path / "run.zarr"
    writer = writer_at(path, on_failure=on_failure)
    append(writer, 0)
    writer.flush()
    shutil.rmtree(path)

    def go_on() -> None:
        for step in range(1, 4):
            append(writer, step)
            writer.flush()
        writer.close()

    if on_failure == "warn":
        with pytest.warns(RuntimeWarning, match="moved or deleted .*; the run goes on unrecorded"):
            go_on()
    else:
        with pytest.raises(StoreError, match=r"run\.zarr was moved or deleted while it was recorded"):
            go_on()
        writer.close()
    assert not path.exists()


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def small_record(writer: RunWriter, step: int) -> None:
    writer.append("s", step, {}, extra={"loss": float(step)})


@pytest.mark.parametrize("append", [append, small_record])
@pytest.mark.parametrize("end", [lambda writer: writer.flush(), lambda writer: writer.close()])
def test_a_store_moved_away_does_not_touch_the_new_one_at_its_path(
    tmp_path: Path, append: Callable[[RunWriter, int], None], end: Callable[[RunWriter], None]
) -> None:
    path = tmp_path / "run.zarr"
    moved = writer_at(path)
    append(moved, 0)
    moved.flush()
    path.rename(tmp_path / "old.zarr")
    with writer_at(path) as other:
        append(other, 7)
        other.flush()
        before = files_of(path)
        append(moved, 1)
        with pytest.raises(
            StoreError,
            match=r"was moved or deleted .*; records committed: s: 1; move it back and go on .*='resume'",
        ):
            end(moved)
        moved.close()
        assert files_of(path) == before
    assert open_run(path)["s"].step.values.tolist() == [7]
    assert open_run(tmp_path / "old.zarr")["s"].step.values.tolist() == [0]


def test_a_store_moved_away_declares_nothing_in_the_new_one_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    writer = writer_at(path)
    path.rename(tmp_path / "old.zarr")
    with writer_at(path):
        before = files_of(path)
        with pytest.raises(StoreError, match="was moved or deleted while it was recorded"):
            writer.declare("s", "b", "x", SPEC)
        assert files_of(path) == before


def test_a_deleted_chunk_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    writer = writer_at(path)
    append(writer, 0)
    writer.flush()
    (path / "s/a/x/c.0.0").unlink()
    append(writer, 1)
    with pytest.raises(StoreError, match=r"No such file or directory .*c\.0\.0"):
        writer.flush()
    writer.close()
    assert "chunk c.0.0 of s/a/x is missing" in verify_run(path).problems[0]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"run\.zarr cannot be made: .*file is a file; take a folder"):
        RunWriter(tmp_path / "file" / "run.zarr", manifest={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="Permission denied"):
        RunWriter(tmp_path / "run.zarr", manifest={})


def test_read_only_disk_under_the_writer(small_disk: Path) -> None:
    path = small_disk / "run.zarr"
    writer = writer_at(path)
    append(writer, 0)
    writer.flush()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    append(writer, 1)
    with pytest.raises(StoreError, match="Read-only file system"):
        writer.flush()
    writer.close()
    assert open_run(path)["s/a/x"].sizes["step"] == 1


class SlowDisk:
    """Hold every write back until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()
        write = Recording.write

        def slow(recording: Recording, record: object) -> None:
            self.entered.set()
            self.go.wait()
            write(recording, record)  # type: ignore[arg-type]

        monkeypatch.setattr(Recording, "write", slow)


def test_slow_disk_skips_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    writer = RunWriter(tmp_path / "run.zarr", manifest={}, on_full="skip", buffer_bytes=4 * SPEC.nbytes)
    writer.declare_stream("s", attrs={})
    writer.declare("s", "a", "x", SPEC)
    append(writer, 0)
    # The disk is in the middle of a write when steps are skipped: skipping does not wait for it.
    assert disk.entered.wait(10)
    for step in range(1, 10):
        append(writer, step)
    assert writer.last_step("s") == 3
    disk.go.set()
    writer.close()
    assert inspect_run(tmp_path / "run.zarr").streams[0].skipped == 6
    assert open_run(tmp_path / "run.zarr").attrs["skipped"] == {"s": {"count": 6, "first": 4, "last": 9}}
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["s/step"], range(4))


def test_slow_disk_blocks_within_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk(monkeypatch)
    writer = RunWriter(tmp_path / "run.zarr", manifest={}, buffer_bytes=2 * SPEC.nbytes)
    writer.declare_stream("s", attrs={})
    writer.declare("s", "a", "x", SPEC)
    taken = []

    def train() -> None:
        for step in range(6):
            append(writer, step)
            taken.append(step)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(0.3)
    assert taken == [0, 1]
    disk.go.set()
    thread.join()
    writer.close()
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["s/step"], range(6))


def test_no_warning_without_a_failure(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer = writer_at(tmp_path / "run.zarr", on_failure="warn")
        append(writer, 0)
        writer.close()


def test_a_late_declaration_on_a_lost_disk_does_not_stop_the_training(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    writer = writer_at(path, on_failure="warn")
    append(writer, 0)
    writer.flush()
    shutil.rmtree(path)
    with pytest.warns(RuntimeWarning, match="moved or deleted"):
        writer.declare("s", "late", "x", SPEC)
    append(writer, 1)
    writer.append("s", 2, {}, extra={"loss": 1.0})
    writer.close()
