"""Records that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fadiag.errors import InputError, StoreError
from fadiag.store import (
    ArraySpec,
    RunWriter,
    open_run,
)
from tests.store.runs import SPEC, values


def test_bad_records_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.zarr", manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        writer.declare("s", "a", "x", SPEC)
        writer.append("s", 10, {("a", "x"): values(0)})
        for step in (10, 3):
            with pytest.raises(
                InputError, match=rf"step {step} of stream 's' comes after step 10.*resume_from={step}"
            ):
                writer.append("s", step, {("a", "x"): values(0)})
        for wrong in (
            values(0).astype(np.float64),
            np.zeros((6, 4), np.float32),
            np.zeros((7, 3), np.float32),
        ):
            with pytest.raises(InputError, match=r"s/a/x was declared float32 \(6, 3\), this record has"):
                writer.append("s", 20, {("a", "x"): wrong})
        with pytest.raises(InputError, match="s/b/x was not declared"):
            writer.append("s", 20, {("b", "x"): values(0)})
        with pytest.raises(InputError, match="stream 'probe' is not declared; the streams are \\['s'\\]"):
            writer.append("probe", 20, {})
        with pytest.raises(InputError, match="give a whole number, 0 or more"):
            writer.append("s", -1, {})
        assert writer.last_step("s") == 10
    way_out = r"go on in it with if_exists='resume' \(of RunWriter: resume=True; record_arrays needs another"
    with pytest.raises(StoreError, match=f"is closed; {way_out}"):
        writer.append("s", 20, {})
    assert open_run(tmp_path / "run.zarr")["s/a/x"].shape == (1, 6, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extra": {"loss": np.array([1.0, 2.0])}}, r"scalar 'loss' is a ndarray; give a number .*array"),
        ({"extra": {"loss": None}}, r"scalar 'loss' is a NoneType; .* not None"),
        ({"extra": {"loss": "0.5"}}, r"scalar 'loss' is a str; .* not '0.5'"),
        ({"extra": {"new": 1.0, "loss": 10**400}}, r"scalar 'loss' is a int; .* not 1000"),
        ({"epoch": [0.5, 1.0]}, r"epoch is a list; .* not \[0.5, 1.0\]"),
        ({"epoch": "1/3"}, r"epoch is a str"),
        ({"wall_time": np.zeros(3)}, r"wall_time is a ndarray"),
        ({"rows_valid": np.array([1, 2])}, r"rows_valid array\(\[1, 2\]\): give a whole number, 0 or more"),
        ({"rows_valid": 1.5}, r"rows_valid 1.5: give a whole number"),
        ({"extra": {"vector": 1.0}}, r"log/vector was declared with shape \(4,\); give it in values"),
    ],
)
def test_a_coordinate_or_scalar_that_is_not_one_number_is_refused(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    path = tmp_path / "run.zarr"
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("log", attrs={})
        writer.declare("log", "", "vector", ArraySpec(("out",), (4,), "float32"))
        writer.append("log", 0, {}, extra={"loss": np.float32(0.5)}, epoch=np.array(0.25))
        with pytest.raises(InputError, match=message):
            writer.append("log", 1, {}, **given)
        for step in (1, 2):
            writer.append("log", step, {}, extra={"loss": np.array([float(step)])}, epoch=step, rows_valid=3)
    log = open_run(path)["log"]
    assert log["loss"].values.tolist() == [0.5, 1, 2]
    assert log["epoch"].values.tolist() == [0.25, 1, 2]
    assert log["rows_valid"].values.tolist() == [0, 3, 3]
    assert set(log.data_vars) == {"vector", "loss"}
