"""A small recorded run."""

from pathlib import Path

import numpy as np

from fadiag.store import (
    ArraySpec,
    RunWriter,
)

SPEC = ArraySpec(("sample", "out"), (6, 3), "float32")


def record(path: Path, steps: int = 5, **options: object) -> None:
    with RunWriter(path, manifest={"meta": {"seed": 3}}, **options) as writer:  # type: ignore[arg-type]
        writer.declare_stream("probe", attrs={"kind": "probe", "mode": "eval"})
        writer.declare("probe", "fc.1", "error", SPEC, layer_attrs={"order": 0})
        for step in range(steps):
            writer.append("probe", step * 10, {("fc.1", "error"): values(step)}, epoch=step / 2)


def values(step: int) -> np.ndarray:
    return np.random.default_rng(step).standard_normal((6, 3)).astype(np.float32)
