"""Test that a model can be copied and saved while hooks are attached to it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from fadiag.capture import Live, Recorder
from fadiag.capture.tracing.module_hooks import Hook
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled

X, Y = labelled(8)


def network():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))


def through_torch(model, folder):
    torch.save(model, folder / "model.pt")
    return torch.load(folder / "model.pt", weights_only=False)


COPIES = {
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "torch": through_torch,
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "average": lambda model, folder: AveragedModel(model).module,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_copy_made_while_armed_leaves_the_recorder_behind(how, when, tmp_path):
    model, alone = network(), network()
    functional.cross_entropy(alone(X), Y).backward()
    with Recorder(model, tmp_path / "run.zarr", live=Live(["error"], every=1)) as recorder:
        made = COPIES[how](model, tmp_path) if when == "before" else None
        loss = functional.cross_entropy(model(X), Y)
        if made is None:  # the pass has left hooks on the tensors, too
            made = COPIES[how](model, tmp_path)
        for _ in range(3):  # with live hooks these passes would be micro-batches
            functional.cross_entropy(made(X), Y).backward()
        loss.backward()
        recorder.step()
    assert open_run(tmp_path / "run.zarr")["live/0/error"].shape == (1, 8, 5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for module in made.modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            assert isinstance(hook, Hook)
            assert hook._call is None
    assert len(pickle.dumps(made)) < 1.2 * len(pickle.dumps(network()))
    np.testing.assert_array_equal(made(X).detach(), alone(X).detach())
    np.testing.assert_array_equal(made[0].weight.grad, 3 * alone[0].weight.grad)
