"""Declarations that are refused, and signals that are declared late."""

from pathlib import Path

import numpy as np
import pytest

from fadiag.errors import InputError, StoreError
from fadiag.store import (
    ArraySpec,
    RunWriter,
    open_run,
    verify_run,
)
from tests.store.runs import SPEC, values


def test_bad_declarations_are_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}, buffer_bytes=10_000) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        with pytest.raises(InputError, match="s/a/x is declared twice"):
            writer.declare("s", "a", "x", SPEC)
        with pytest.raises(
            InputError, match="dimension 'out' has length 4, in s/a/x it has 3; give it another"
        ):
            writer.declare("s", "a", "y", ArraySpec(("out",), (4,), "float32"))
        with pytest.raises(
            InputError, match=r"'y' of layer 'big' has 12,000 bytes a record.*buffer_bytes=10,000; raise"
        ):
            writer.declare("s", "big", "y", ArraySpec(("out",), (3000,), "float32"))
        with pytest.raises(InputError, match=r"is not plain JSON: .*(NaN|nan|Out of range)"):
            writer.set_attrs("s/a", {"x": float("nan")})
        with pytest.raises(InputError, match="'s/z' is not in the store"):
            writer.set_attrs("s/z", {"x": 1})
        with pytest.raises(InputError, match=r"signal name '\.\./x'"):
            writer.declare("s", "a", "../x", SPEC)
        with pytest.raises(InputError, match="stream name 'a/b'"):
            writer.declare_stream("a/b", attrs={})
    with pytest.raises(InputError, match="dtype 'complex64' cannot be stored"):
        ArraySpec((), (), "complex64")
    with pytest.raises(
        StoreError,
        match=r"run\.zarr exists; go on in it with RunWriter\(resume=True\), or take another path",
    ):
        RunWriter(tmp_path / "run.zarr", manifest={})
    with pytest.raises(InputError, match="manifest is not plain JSON"):
        RunWriter(tmp_path / "other.zarr", manifest={"a": np.float32(1)})
    assert not (tmp_path / "other.zarr").exists()


def test_late_declaration_reads_as_fill_before(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=3)  # three records a chunk
        for step in range(5):
            writer.append("s", step, {})
        writer.flush()
        writer.declare("s", "late", "x", SPEC)
        for step in range(5, 8):
            writer.append("s", step, {("late", "x"): values(step)})
    read = open_run(path)["s/late/x"].values
    assert np.isnan(read[:5]).all()
    np.testing.assert_array_equal(read[5:], np.stack([values(step) for step in range(5, 8)]))
    assert verify_run(path).problems == ()


def test_a_late_signal_counts_the_records_that_still_wait(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        writer.declare("s", "a", "x", ArraySpec(("out",), (3,), "float32"))
        with writer._background.exclusive():  # the writer's thread cannot write while we append and declare
            for step in range(10):
                writer.append("s", step, {("a", "x"): np.full(3, step, np.float32)})
            writer.declare("s", "a", "late", ArraySpec(("out",), (3,), "int64"))
        writer.append("s", 10, {("a", "late"): np.arange(3)})
    late = open_run(path)["s/a/late"]
    assert late.attrs["declared_at"] == 10
    np.testing.assert_array_equal(late, [[0, 0, 0]] * 10 + [[0, 1, 2]])
    assert verify_run(path).problems == ()


@pytest.mark.parametrize("back", [0, 1, 4, 6, 9, 12])
def test_a_late_signal_survives_a_return_to_before_it(tmp_path: Path, back: int) -> None:
    path = tmp_path / "run.zarr"
    spec = ArraySpec(("out",), (3,), "float32")
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        writer.declare("s", "a", "x", spec)
        for step in range(10):
            writer.append("s", step, {("a", "x"): np.full(3, step, np.float32)})
        writer.flush()
        writer.declare("s", "a", "late", spec)
        for step in range(10, 14):
            writer.append("s", step, {("a", "late"): np.full(3, step, np.float32)})
    with RunWriter(path, manifest={}, resume_from=back) as writer:
        writer.declare_stream("s", attrs={}, planned=4)
        for signal in ("x", "late"):
            writer.declare("s", "a", signal, spec)
        assert verify_run(path).problems == ()
        for step in range(back, 14):
            writer.append("s", step, {("a", "late"): np.full(3, 100 + step, np.float32)})
    assert verify_run(path).problems == ()
    expected = [np.nan if s < 10 else s for s in range(back)] + [100 + s for s in range(back, 14)]
    np.testing.assert_array_equal(open_run(path)["s/a/late"][:, 0], np.array(expected, np.float32))
