"""Test that the recorder notices a GradScaler that the user did not give it."""

import warnings

import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureWarning
from fadiag.rules import convert
from tests.capture.toy import labelled, loss_of

X, Y = labelled(32)


def train(path, *, factor=1.0, give=False, reduction="raw", rows=32, steps=3):
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=factor)
    probe, live = Probe((X, Y), loss_of, reduction=reduction), Live(["error"], every=1, reduction=reduction)
    options = {"scaler": scaler} if give else {}
    probes = {"probe": probe}
    with Recorder(model, path, optimizer=optimizer, probes=probes, live=live, every=1, **options) as recorder:
        for _ in range(steps):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, (X[:rows], Y[:rows]))).backward()
            scaler.step(optimizer)
            scaler.update()
            recorder.step()


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_a_forgotten_scaler_is_told_of_once(reduction, tmp_path):
    with pytest.warns(
        CaptureWarning, match=r"live errors are about [67]\d,\d\d\d times .*scaler=scaler"
    ) as told:
        train(tmp_path / "run.zarr", factor=65536.0, reduction=reduction)
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    "options", [{}, {"rows": 2}, {"factor": 65536.0, "give": True}, {"factor": 512.0}], ids=str
)
def test_what_may_be_another_batch_is_not(options, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tmp_path / "run.zarr", **options)
