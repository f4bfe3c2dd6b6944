"""Test the metadata that a store holds about its run."""

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fadiag
from fadiag.errors import CaptureWarning, InputError
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


def test_arguments_of_a_script_go_into_meta_and_what_is_not_json_becomes_text(tmp_path: Path) -> None:
    args = argparse.Namespace(
        lr=0.1,
        seed=np.int64(3),
        scale=torch.tensor(2.5),
        device=torch.device("cpu"),
        out=Path("/data"),
        betas=(0.9, 0.99),
        nested={"dtype": torch.float32, 4: [float("nan")]},
        resume=None,
    )
    with pytest.warns(CaptureWarning) as told:
        fadiag.Recorder(nn.Linear(4, 3), tmp_path / "run.zarr", meta=vars(args), config=args).close()
    assert [w.filename for w in told] == [__file__]
    message = str(told[0].message)
    for key in (
        "meta['device'] (device cpu)",
        "meta['out'] (PosixPath /data)",
        "meta['nested']['dtype'] (dtype ",
    ):
        assert key in message
    assert "meta['nested'][4][0] (float nan), config (Namespace Namespace(lr=0.1" in message
    assert not any(kept in message for kept in ("'lr'", "'seed'", "'scale'", "'betas'", "'resume'"))
    assert run_info(tmp_path / "run.zarr").manifest["meta"] == {
        "lr": 0.1,
        "seed": 3,
        "scale": 2.5,
        "device": "cpu",
        "out": "/data",
        "betas": [0.9, 0.99],
        "nested": {"dtype": "torch.float32", "4": ["nan"]},
        "resume": None,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fadiag.Recorder(nn.Linear(4, 3), tmp_path / "plain.zarr", meta={"lr": np.float64(0.1)}).close()
    assert run_info(tmp_path / "plain.zarr").manifest["meta"] == {"lr": 0.1}


def test_meta_of_any_depth_and_with_any_text_is_stored(tmp_path):
    class Silent:
        def __str__(self):
            raise ValueError("no text")

    cycle: dict = {"a": 1}
    cycle["self"] = cycle
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    meta = {"cycle": cycle, "deep": deep, "silent": Silent()}
    with pytest.warns(CaptureWarning, match="not JSON, so written as text: .*Silent"):
        fadiag.Recorder(nn.Linear(2, 1), tmp_path / "run.zarr", meta=meta).close()
    stored = run_info(tmp_path / "run.zarr").manifest["meta"]
    assert stored["silent"] == "<Silent>"
    assert stored["cycle"]["self"]["a"] == 1


def test_meta_that_is_no_mapping_or_would_lose_a_key_is_refused(tmp_path):
    for meta, match in (
        (argparse.Namespace(seed=0), r"meta is a Namespace; give a mapping, such as vars\(args\)"),
        ({1: "int", "1": "str"}, "meta has two keys that are '1' as text; rename one of them"),
    ):
        with pytest.raises(InputError, match=match):
            fadiag.Recorder(nn.Linear(2, 1), tmp_path / "run.zarr", meta=meta)
