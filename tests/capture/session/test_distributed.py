"""Runs of several processes: what two ranks record, agree on and refuse, under real DDP."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.analysis import analyze
from fadiag.capture import Live, Recorder
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.session.distributed import feedback_digests
from fadiag.errors import InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info

WORKER = Path(__file__).with_name("two_ranks.py")


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
@pytest.mark.parametrize("ranks", ["first", "all"])
def test_recording_changes_no_bit_on_any_rank(found, ranks):
    for rank in range(2):
        assert found[rank][ranks] == found[rank]["plain"]
    assert found[0]["plain"] != found[1]["plain"]  # each has its own gradients' RNG and statistics


@pytest.mark.slow
def test_first_records_rank_0_alone(folder):
    assert not list(folder.glob("first*/rank*"))
    run = open_run(folder / "first.zarr")
    np.testing.assert_array_equal(run["probe/step"], [0, 2, 4, 5])
    assert run["probe/4/error"].shape == (4, 20, 4)
    assert "ranks" not in run_info(folder / "first.zarr").manifest


@pytest.mark.slow
def test_all_is_one_run_of_every_ranks_samples(folder):
    joined = open_run(folder / "all")
    own = [open_run(folder / "all" / f"rank{rank}.zarr") for rank in range(2)]
    np.testing.assert_array_equal(joined["live/step"], range(5))
    np.testing.assert_array_equal(joined["live/rows_valid"], [18, 16, 15, 18, 16])
    for layer in ("0", "4", "6"):
        for signal in ("activation", "error", "modulator"):
            whole = joined[f"live/{layer}/{signal}"]
            for step in range(5):
                parts = [
                    run[f"live/{layer}/{signal}"].values[step, : int(run["live/rows_valid"][step])]
                    for run in own
                ]
                rows = np.concatenate(parts)
                np.testing.assert_array_equal(whole[step, : len(rows)], rows)
                assert np.isnan(whole[step, len(rows) :]).all()
    for path in ("probe/4/error", "state/4/update", "static/4/feedback", "log/loss"):
        np.testing.assert_array_equal(joined[path], own[0][path])
    assert joined.attrs["ranks"] == 2


@pytest.mark.slow
def test_all_has_the_error_of_the_whole_batch(folder):
    """Of each rank's own mean: the rows over their count make the averaged gradient that DDP applied."""
    joined, own = open_run(folder / "all"), open_run(folder / "all" / "rank0.zarr")
    error, below = joined["live/6/error"].values[2], np.maximum(joined["live/4/activation"].values[2], 0)
    rows = int(joined["live/rows_valid"][2])
    gradient = error[:rows].T @ below[:rows] / 2
    np.testing.assert_allclose(gradient, own["state/6/gradient"].values[1], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_all_is_analyzed_as_one_run(folder):
    results = analyze(folder / "all")
    error = open_run(folder / "all")["live/4/error"].values[0, :18].astype(np.float64)
    squares = np.linalg.svd(error, compute_uv=False) ** 2
    measured = results["live/error_participation_ratio_raw"].sel(layer="4", step=0).item()
    assert measured == pytest.approx(squares.sum() ** 2 / (squares**2).sum(), rel=1e-6)


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
    assert "exists; resume it with resume=True" in found[1]["taken"]


@pytest.mark.slow
def test_a_probe_that_would_wait_for_the_other_ranks_is_refused(found):
    for rank in range(2):
        assert "probe 'probe' is in train mode, where layer '1' (SyncBatchNorm)" in found[rank]["sync train"]
        assert found[rank]["sync eval"] == ""


@pytest.mark.slow
def test_resumed_ranks_agree_on_the_step(found):
    assert [found[rank]["resumed at"] for rank in range(2)] == [5, 5]
    for rank in range(2):
        assert "the ranks' stores end at different steps (0, 1); give resume_from=" in found[rank]["uneven"]


@pytest.mark.slow
def test_a_recorder_on_one_rank_alone_is_told_of(found):
    assert found[0]["alone"].startswith("CaptureError: not all of the 2 ranks built a Recorder within 2 s")
    assert "those above 0 record nothing with ranks='first'" in found[0]["alone"]


def test_all_of_a_single_process_is_a_folder_of_one(tmp_path):
    model = convert(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(model, tmp_path / "run", optimizer=optimizer, live=Live(every=1), ranks="all") as recorder:
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        recorder.step()
    assert open_run(tmp_path / "run")["live/0/error"].shape == (1, 5, 4)
    with pytest.raises(InputError, match=r"rank0\.zarr is a store; .* take another path"):
        Recorder(model, tmp_path / "run" / "rank0.zarr", ranks="all")


def test_unknown_ranks_are_refused(tmp_path):
    with pytest.raises(InputError, match="ranks is 'some'; give 'first'"):
        Recorder(nn.Linear(2, 2), tmp_path / "run.zarr", ranks="some")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_digest_tells_one_bit(dtype):
    model = convert(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))).to(dtype)
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    before = feedback_digests(layers)
    model[2].feedback[1, 1] *= 1 + torch.finfo(dtype).eps
    after = feedback_digests(layers)
    assert before["0"] == after["0"]
    assert before["2"] != after["2"]
