"""Test runs of several processes: what two ranks record, check and refuse under real DDP."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Recorder
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.session.distributed import feedback_digests
from fadiag.errors import InputError
from fadiag.rules import convert
from fadiag.store import open_run

WORKER = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run the two processes once; every slow test looks at what they left."""
    made = tmp_path_factory.mktemp("ranks")
    started = [subprocess.Popen([sys.executable, WORKER, str(rank), str(made)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=120) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return made


@pytest.fixture(scope="module")
def found(folder):
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_recording_changes_no_bit_on_any_rank(found):
    for rank in range(2):
        assert found[rank]["first"] == found[rank]["plain"]
    assert found[0]["plain"] != found[1]["plain"]  # each has its own gradients' RNG and statistics


@pytest.mark.slow
def test_first_records_rank_0_alone(folder):
    assert not list(folder.glob("first*/rank*"))
    run = open_run(folder / "first.zarr")
    np.testing.assert_array_equal(run["probe/step"], [0, 2, 4, 5])
    assert run["probe/4/error"].shape == (4, 20, 4)


@pytest.mark.slow
def test_feedback_that_differs_is_refused_on_every_rank(folder, found):
    for rank in range(2):
        message = found[rank]["other B"]
        assert message.startswith("CaptureError: the feedback B of layer '0' on rank 1 is not rank 0's")
        assert "sends rank 0's unless broadcast_buffers=False" in message
        assert found[rank]["sent B"] == ""
        assert "rank 0 records 3 layers and rank 1 3, or under other names" in found[rank]["other layers"]
    assert not (folder / "other.zarr").exists()


@pytest.mark.slow
def test_a_recorder_that_fails_on_one_rank_fails_on_all(found):
    assert found[0]["taken"].startswith("StoreError: ")
    assert found[1]["taken"].startswith("CaptureError: the recorder of rank 0 did not start: StoreError: ")
    assert "exists; take another path, or give if_exists='resume'" in found[1]["taken"]


@pytest.mark.slow
def test_a_probe_that_would_wait_for_the_other_ranks_is_refused(found):
    for rank in range(2):
        assert "probe 'probe' is in train mode, where layer '1' (SyncBatchNorm)" in found[rank]["sync train"]
        assert found[rank]["sync eval"] == ""


@pytest.mark.slow
def test_resumed_ranks_agree_on_the_step(found):
    assert [found[rank]["resumed at"] for rank in range(2)] == [5, 5]


@pytest.mark.slow
def test_a_recorder_on_one_rank_alone_is_told_of(found):
    assert found[0]["alone"].startswith("CaptureError: not all of the 2 ranks built a Recorder within 2 s")
    assert "build one on every rank: those above 0 record nothing" in found[0]["alone"]


def test_other_processes_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"processes is 'all'; only 'first' .* give rank 0 a Probe with the whole"
    ):
        Recorder(nn.Linear(2, 2), tmp_path / "run.zarr", processes="all")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_digest_tells_one_bit(dtype):
    model = convert(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))).to(dtype)
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    before = feedback_digests(layers)
    model[2].feedback[1, 1] *= 1 + torch.finfo(dtype).eps
    after = feedback_digests(layers)
    assert before["0"] == after["0"]
    assert before["2"] != after["2"]
