"""What the store says of its run."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fadiag
from fadiag.store import run_info


def test_the_manifest_tells_what_the_run_was(tmp_path: Path) -> None:
    model = fadiag.convert(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), rule="fa", seed=1)
    with fadiag.Recorder(model, tmp_path / "run.zarr", meta={"seed": 1}, config={"lr": 0.1}):
        pass
    told = run_info(tmp_path / "run.zarr").manifest
    assert told["meta"] == {"seed": 1}
    assert told["config"] == {"lr": 0.1}
    assert told["versions"]["fadiag"] == fadiag.__version__
    assert told["versions"]["numpy"] == np.__version__
    assert told["versions"]["torch"] == torch.__version__
    assert (told["device"], told["dtype"]) == ("cpu", "float32")
    assert told["host"]
    assert told["feedback_hash"] == {
        name: hashlib.sha256(model[int(name)].feedback.numpy().tobytes()).hexdigest() for name in ("0", "2")
    }
