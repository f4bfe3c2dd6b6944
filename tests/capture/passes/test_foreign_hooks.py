"""Test that hooks of other libraries break no probe, and that errors in them name the hook."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder, is_out_of_band
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12)


def network():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), seed=1)


def train(model, path, **options):
    """Three updates with batches of 8, a probe of 12 samples, and live signals."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"probes": {"p": Probe((X, Y), loss_of)}, "live": Live(every=1), "every": 1, **options}
    with Recorder(model, path, optimizer=optimizer, **options) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, (X[:8], Y[:8])).backward()
            optimizer.step()
            recorder.step()
    return open_run(path)


def expects_eight(module, inputs, output):
    assert len(output) == 8, f"{len(output)} samples"


def expects_eight_before(module, inputs):
    assert len(inputs[0]) == 8, f"{len(inputs[0])} samples"


def expects_eight_by_name(module, args, kwargs, output):
    assert len(output) == 8, f"{len(output)} samples"


@pytest.mark.parametrize(
    ("attach", "name"),
    [
        (lambda module: module.register_forward_hook(expects_eight), "expects_eight"),
        (lambda module: module.register_forward_pre_hook(expects_eight_before), "expects_eight_before"),
        (
            lambda module: module.register_forward_hook(expects_eight_by_name, with_kwargs=True),
            "expects_eight_by_name",
        ),
    ],
)
def test_a_hook_that_raises_in_a_probe_is_left_out_and_named(attach, name, tmp_path):
    expected = train(network(), tmp_path / "plain.zarr")
    model = network()
    attach(model[0])
    before = [dict(model[0]._forward_hooks), dict(model[0]._forward_pre_hooks)]
    match = rf"forward hook .*test_foreign_hooks.{name} of module '0' raised AssertionError: 12"
    with pytest.warns(CaptureWarning, match=match):
        run = train(model, tmp_path / "run.zarr")
    assert [dict(model[0]._forward_hooks), dict(model[0]._forward_pre_hooks)] == before
    for path in ("p/0/error", "p/0/error_bp", "live/2/error", "state/0/weight"):
        np.testing.assert_array_equal(run[path].values, expected[path].values)


def test_a_hook_that_changes_the_output_is_a_part_of_the_model(tmp_path):
    model, twin = network(), network()
    model[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    run = train(model, tmp_path / "run.zarr")
    with torch.no_grad():
        twin[2].weight.mul_(2)
    loss = loss_of(twin, (X, Y))
    error = torch.autograd.grad(loss, twin[2].bias)[0]
    np.testing.assert_allclose(run["p/2/error"].values[0].sum(0), error, rtol=1e-5)


@pytest.mark.filterwarnings("error")
def test_a_hook_that_counts_counts_on_and_can_leave_probes_out(tmp_path):
    model, every, training = network(), [], []
    model[0].register_forward_hook(lambda module, inputs, output: every.append(len(output)))
    model[0].register_forward_hook(
        lambda module, inputs, output: None if is_out_of_band() else training.append(len(output))
    )
    train(model, tmp_path / "run.zarr")
    assert training == [8, 8, 8]
    assert set(every) == {8, 12}


def test_a_hook_that_removes_itself_in_a_probe_is_there_for_the_training(tmp_path):
    model, seen = network(), []

    def once(module, inputs, output):
        seen.append(len(output))
        handle.remove()

    handle = model[0].register_forward_hook(once)
    probes = {"p": Probe((X, Y), loss_of)}
    with Recorder(model, tmp_path / "run.zarr", probes=probes) as recorder:
        assert once in model[0]._forward_hooks.values()
        loss_of(model, (X[:8], Y[:8])).backward()
        assert once not in model[0]._forward_hooks.values()
        recorder.step()
    assert seen[-1] == 8


@pytest.mark.parametrize("kind", ["full", "pre"])
def test_a_backward_hook_that_raises_gets_the_blame(kind, tmp_path):
    model = network()

    def strict(module, *gradients):
        assert len(gradients[-1][0]) == 8, "eight samples"

    register = "register_full_backward_hook" if kind == "full" else "register_full_backward_pre_hook"
    getattr(model[2], register)(strict)
    match = r"probe 'p': the backward hook .*strict raised AssertionError: eight"
    with pytest.raises(CaptureError, match=match) as got:
        train(model, tmp_path / "run.zarr")
    assert "batch and a loss" not in str(got.value)
    assert not (tmp_path / "run.zarr").exists()


def test_an_error_in_the_model_itself_still_blames_batch_and_loss(tmp_path):
    with pytest.raises(CaptureError, match=r"give Probe a batch and a loss that fit the model"):
        train(network(), tmp_path / "run.zarr", probes={"p": Probe((X[:, :4], Y), loss_of)})


@pytest.mark.filterwarnings("error")
def test_a_hook_that_raises_in_the_training_is_the_users_own(tmp_path):
    model = network()

    def broken(module, inputs, output):
        if not is_out_of_band():
            raise ZeroDivisionError

    model[0].register_forward_hook(broken)
    with pytest.raises(ZeroDivisionError):
        train(model, tmp_path / "run.zarr")
    assert run_info(tmp_path / "run.zarr").status == "failed"
