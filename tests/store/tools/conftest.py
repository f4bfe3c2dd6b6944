"""A recorded run of several layers, and its sealed copy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fadiag.store import (
    ArraySpec,
    RunWriter,
    compact,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.zarr"
    rng = np.random.default_rng(0)
    with RunWriter(path, manifest={"meta": {"seed": 1, "condition": "fa"}}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        writer.declare("probe", "fc.1", "error", ArraySpec(("sample", "out"), (7, 5), "float32"))
        writer.declare("probe", "dead", "error", ArraySpec(("sample", "out"), (7, 5), "float32"))
        writer.declare("probe", "big", "error", ArraySpec(("out", "in"), (1100, 1000), "float32"))
        writer.put_static("fc.1", "weight_init", rng.standard_normal((5, 4)), dims=("out", "in"))
        for step in range(0, 60, 10):
            writer.append(
                "probe",
                step,
                {
                    ("fc.1", "error"): rng.standard_normal((7, 5)).astype(np.float32),
                    ("dead", "error"): np.zeros((7, 5), np.float32),
                    ("big", "error"): np.full((1100, 1000), step, np.float32),
                },
                extra={"loss": step / 3},
            )
    return path


@pytest.fixture(scope="module")
def sealed(recorded: Path) -> Path:
    compact(recorded, recorded.with_name("sealed.zarr"))
    return recorded.with_name("sealed.zarr")


@pytest.fixture
def full_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("300k")
