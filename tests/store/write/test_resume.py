"""Going on in a store: behind its last record, or back at a checkpoint."""

from pathlib import Path

import numpy as np
import pytest

from fadiag.errors import InputError, StoreError
from fadiag.store import ArraySpec, RunWriter, open_run, run_info

SPEC = ArraySpec(("out",), (3,), "float32")


def write(path: Path, steps: range, value: float, **options: object) -> RunWriter:
    writer = RunWriter(path, manifest={"meta": {"value": value}}, **options)  # type: ignore[arg-type]
    writer.declare_stream("s", attrs={"kind": "probe"})
    writer.declare("s", "a", "x", SPEC)
    for step in steps:
        writer.append("s", step, {("a", "x"): np.full(3, value + step, np.float32)})
    writer.flush()
    return writer


def test_resume_goes_on_behind_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, range(5), 0).close()
    name = run_info(path).run_id
    writer = RunWriter(path, manifest={}, resume=True)
    assert writer.last_step("s") == 4
    assert (run_info(path).run_id, run_info(path).generation) == (name, 0)
    writer.declare_stream("s", attrs={"kind": "probe"})
    writer.declare("s", "a", "x", SPEC)
    with pytest.raises(InputError, match="s/a/x is declared twice"):
        writer.declare("s", "a", "x", SPEC)
    with pytest.raises(InputError, match="step 4 of stream 's' comes after step 4"):
        writer.append("s", 4, {})
    writer.append("s", 5, {("a", "x"): np.full(3, 5, np.float32)})
    writer.close()
    np.testing.assert_array_equal(open_run(path)["s/a/x"][:, 0], np.arange(6))
    assert run_info(path).manifest == {"meta": {"value": 0}}


def test_resume_makes_a_store_where_there_is_none(tmp_path: Path) -> None:
    write(tmp_path / "run.zarr", range(2), 0, resume=True).close()
    assert run_info(tmp_path / "run.zarr").committed == {"s": 2}


def test_resume_refuses_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    write(path, range(2), 0).close()
    with RunWriter(path, manifest={}, resume=True) as writer:
        writer.declare_stream("s", attrs={})
        with pytest.raises(
            InputError, match=r"s/a/x is stored as float32 \(3,\) .* declared now as float32 \(4,\)"
        ):
            writer.declare("s", "a", "x", ArraySpec(("out",), (4,), "float32"))


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 99])
def test_resume_from_gives_up_what_the_checkpoint_has_not_seen(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "run.zarr"
    write(path, range(5), 0).close()
    kept = min(cut, 5)
    writer = write(path, range(kept, kept + 2), 100, resume_from=cut)
    assert run_info(path).generation == 1
    writer.close()
    tree = open_run(path)
    np.testing.assert_array_equal(tree["s/step"], np.arange(kept + 2))
    np.testing.assert_array_equal(tree["s/a/x"][:, 0], [*range(kept), 100 + kept, 101 + kept])
    resumed = tree.attrs["resumes"][0]
    assert (resumed["resume_from"], resumed["committed_before"], resumed["generation"]) == (cut, {"s": 5}, 1)


def test_resume_from_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        RunWriter(tmp_path / "run.zarr", manifest={}, resume_from=3)
