"""Test that a model that changes during the run raises an error, whichever stream is recorded."""

import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(16)


def small():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 8), nn.Identity(), nn.Linear(8, 3)))


def with_optimizer(model):
    return {"optimizer": torch.optim.SGD(model.parameters(), 0.1)}


STREAMS = {
    "state": with_optimizer,
    "weight": lambda model: {"state": ["weight"]},
    "probe": lambda model: {"state": (), "probes": {"probe": Probe((X, Y), loss_of)}},
    "live": lambda model: {"state": (), "live": Live(every=1)},
}


def replaced(model):
    model[2] = nn.Linear(8, 3)


def removed(model):
    del model[2]


def appended(model):
    model.append(nn.Linear(3, 3))


def put_in_place(model):
    model[1] = nn.Linear(8, 8)


def given_weight(model):
    model[0].weight = nn.Parameter(torch.randn(8, 6))


def given_bias(model):
    model[0].bias = nn.Parameter(torch.randn(8))


@pytest.mark.parametrize("options_of", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            replaced,
            r"layer '2' was replaced or removed in mid-run, before step [12]; record the changed model into",
        ),
        (
            removed,
            r"layer '2' was replaced or removed in mid-run, before step [12]; record the changed model into",
        ),
        (
            appended,
            r"layer '3' appeared in mid-run, before step [12], so it is not recorded .*separate store",
        ),
        (put_in_place, r"layer '1' appeared in mid-run, before step [12], so it is not recorded"),
        (
            given_weight,
            r"the weight of layer '0' is another Parameter than at first, before step [12].*\.data\.copy_",
        ),
        (
            given_bias,
            r"the bias of layer '0' is another Parameter than at first, before step [12].*\.data\.copy_",
        ),
    ],
)
def test_a_model_that_is_changed_in_mid_run_is_told(change, match, options_of, tmp_path):
    model = small()
    recorder = Recorder(model, tmp_path / "run.zarr", every=1, **options_of(model))
    loss_of(model, (X, Y)).backward()
    model.zero_grad()
    recorder.step()
    change(model)
    with pytest.raises(CaptureError, match=match):
        recorder.step()


def test_what_a_layer_is_not_may_come_and_go_and_values_may_change(tmp_path):
    model = small()
    with Recorder(
        model, tmp_path / "run.zarr", every=1, probes={"probe": Probe((X, Y), loss_of)}
    ) as recorder:
        model[1] = nn.ReLU()
        model[0].weight.data = torch.ones(8, 6)
        model.load_state_dict(model.state_dict())
        with pytest.warns(
            CaptureWarning, match="layer '0' was followed by no norm or gate in .* is followed by relu at"
        ):
            recorder.step()
        model.append(nn.Softmax(1))
        recorder.step()
    assert list(open_run(tmp_path / "run.zarr")["probe"]["step"].values) == [0, 1, 2]
