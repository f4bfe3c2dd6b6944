"""Test that live recording uses the correct passes of a step as its micro-batches."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12)


def network():
    torch.manual_seed(0)
    return convert(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))


def recorded_live(path):
    run = open_run(path)
    return run["live"]["rows_valid"].values.tolist(), run["live/2/error"].values[0]


def test_the_probe_of_another_recorder_is_no_micro_batch(tmp_path):
    model = network()
    probe = Probe((X[:4], Y[:4]), loss_of, redraws=1, gate_draws=1)
    with (
        Recorder(model, tmp_path / "one.zarr", live=Live(["error"], every=1)) as one,
        Recorder(model, tmp_path / "two.zarr", probes={"p": probe}, every=1) as two,
    ):
        for _ in range(2):
            loss_of(model, (X, Y)).backward()
            two.step()  # its probe runs while the first recorder has its hooks on
            one.step()
    assert recorded_live(tmp_path / "one.zarr")[0] == [12, 12]


def test_two_recorders_of_one_model_record_the_same(tmp_path):
    model = network()
    paths = [tmp_path / "one.zarr", tmp_path / "two.zarr"]
    recorders = [Recorder(model, path, live=Live(every=1)) for path in paths]
    loss_of(model, (X, Y)).backward()
    for recorder in recorders:
        recorder.step()
        recorder.close()
    for signal in ("activation", "modulator", "error"):
        one, two = (open_run(path)[f"live/0/{signal}"].values for path in paths)
        assert one.any()
        np.testing.assert_array_equal(one, two)


def per_sample(model):
    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, x[None]), y[None])

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, X, Y)


def forward_ad(model):
    with torch.autograd.forward_ad.dual_level():
        return model(torch.autograd.forward_ad.make_dual(X, X))


#: What a user may do with the model between two updates, without training it.
NO_TRAINING = {
    "jacrev": lambda model: torch.func.jacrev(model)(X[:2]),
    "jacfwd": lambda model: torch.func.jacfwd(model)(X[:2]),
    "jvp": lambda model: torch.func.jvp(model, (X,), (X,)),
    "vmap": lambda model: torch.func.vmap(model)(X),
    "hessian": lambda model: torch.func.hessian(lambda x: model(x).sum())(X[0]),
    "forward_ad": forward_ad,
    "per-sample gradients": per_sample,
    "per-sample gradients by autograd": lambda model: [
        torch.autograd.grad(loss_of(model, (X[i : i + 1], Y[i : i + 1])), list(model.parameters()))
        for i in range(3)
    ],
    "jacobian": lambda model: torch.autograd.functional.jacobian(model, X[:2]),
    "jit.trace": lambda model: torch.jit.trace(model, X),
    "export": lambda model: torch.export.export(model, (X,)),
    "fx": torch.fx.symbolic_trace,
}


@pytest.mark.parametrize("call", NO_TRAINING)
@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
def test_what_a_user_does_with_the_model_beside_its_training_is_left_alone(call, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    with Recorder(model, tmp_path / "run.zarr", live=Live(every=1), state=()) as recorder:
        NO_TRAINING[call](model)
        loss_of(model, (X, Y)).backward()
        expected = model[2].bias.grad.clone()
        NO_TRAINING[call](model)
        recorder.step()
    rows, error = recorded_live(tmp_path / "run.zarr")
    assert rows == [12]
    np.testing.assert_allclose(error.sum(0), expected.numpy(), rtol=1e-5)


def test_a_training_inside_a_transformation_is_told(tmp_path):
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    recorder = Recorder(model, tmp_path / "run.zarr", live=Live(every=1), state=())
    per_sample(model)
    with pytest.raises(CaptureError, match=r"saw a backward pass in step 0 only inside .*torch.func"):
        recorder.step()


def by_grad(model, x, loss):
    return torch.autograd.grad(loss, x)[0]


def by_inputs(model, x, loss):
    loss.backward(inputs=[x])
    return x.grad


def frozen(model, x, loss):
    model.requires_grad_(False)
    gradient = torch.autograd.grad(loss_of(model, (x, Y)), x)[0]
    model.requires_grad_(True)
    return gradient


def train_by_backward(model, x):
    loss_of(model, (x, Y)).backward()


def train_by_grad(model, x):
    torch.autograd.grad(loss_of(model, (x, Y)), list(model.parameters()))


def train_other_weights(model, x):
    weights = {name: (2 * w.detach()).requires_grad_() for name, w in model.named_parameters()}
    functional.cross_entropy(functional_call(model, weights, (x,)), Y).backward()
    assert weights["0.weight"].grad is not None


@pytest.mark.parametrize("train", [train_by_backward, train_by_grad, train_other_weights])
@pytest.mark.parametrize("attack", [by_grad, by_inputs, frozen])
def test_an_attack_on_the_input_is_no_micro_batch(attack, train, tmp_path):
    expected = tmp_path / "expected.zarr"
    for path, steps in ((tmp_path / "run.zarr", 3), (expected, 0)):
        model, x = network(), X.clone().requires_grad_()
        for _ in range(0 if steps else 3):  # the same attack, unheard
            x = (x + 0.1 * attack(model, x, loss_of(model, (x, Y))).sign()).detach().requires_grad_()
        with Recorder(model, path, live=Live(["error"], every=1)) as recorder:
            for _ in range(steps):
                x = (x + 0.1 * attack(model, x, loss_of(model, (x, Y))).sign()).detach().requires_grad_()
            train(model, x.detach())
            recorder.step()
    rows, error = recorded_live(tmp_path / "run.zarr")
    assert rows == [12]
    np.testing.assert_array_equal(error, recorded_live(expected)[1])


def test_passes_to_no_weight_are_micro_batches_if_there_are_no_others(tmp_path):
    model = network().requires_grad_(False)  # of a frozen model, the errors that go down to what is trained
    shift = torch.zeros(6, requires_grad=True)
    with Recorder(model, tmp_path / "run.zarr", live=Live(["error"], every=1)) as recorder:
        for half in (slice(0, 6), slice(6, 12)):
            loss_of(model, (X[half] + shift, Y[half])).backward()
        recorder.step()
    assert recorded_live(tmp_path / "run.zarr")[0] == [12]


def test_two_passes_under_one_backward_are_two_micro_batches(tmp_path):
    model = network()
    with Recorder(model, tmp_path / "run.zarr", live=Live(["error"], every=1)) as recorder:
        (loss_of(model, (X[:6], Y[:6])) + loss_of(model, (X[6:], Y[6:]))).backward()
        recorder.step()
    assert recorded_live(tmp_path / "run.zarr")[0] == [12]


class TwoHeads(nn.Module):
    """A body with two heads; each pass calls one of them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x, head):
        return getattr(self, head)(torch.relu(self.body(x)))


def test_micro_batches_may_call_different_layers(tmp_path):
    model = TwoHeads()
    with Recorder(model, tmp_path / "run.zarr", live=Live(every=1)) as recorder:
        for _ in range(2):
            model.zero_grad()
            for head, rows in (("one", slice(0, 8)), ("two", slice(8, 12))):
                functional.cross_entropy(model(X[rows], head), Y[rows]).backward()
            recorder.step()
    live = open_run(tmp_path / "run.zarr")["live"]
    assert list(live.children) == ["body", "one", "two"]
    np.testing.assert_array_equal(live["rows_valid"], [12, 12])
    np.testing.assert_array_equal([live[f"{name}/rows"][0] for name in ("one", "two")], [8, 4])
    for head, rows in (("one", slice(0, 8)), ("two", slice(8, 12))):
        leaf = model(X[rows], head).detach().requires_grad_()
        functional.cross_entropy(leaf, Y[rows]).backward()
        count = rows.stop - rows.start
        np.testing.assert_allclose(live[f"{head}/error"][0, :count], leaf.grad, rtol=1e-6)
        assert np.isnan(live[f"{head}/error"][0, count:]).all()
        hidden = torch.relu(model.body(X[rows])).detach()
        np.testing.assert_array_equal(live["body/activation"][0, rows], hidden)


class Interrupted(nn.Module):
    """Raises a KeyboardInterrupt between its layers on request."""

    def __init__(self):
        super().__init__()
        self.inner, self.stops = network(), False

    def forward(self, x):
        h = self.inner[:2](x)
        if self.stops:
            raise KeyboardInterrupt
        return self.inner[2](h)


def test_an_interrupt_in_a_forward_pass_leaves_nothing_behind(tmp_path):
    model = Interrupted()
    recorder = Recorder(model, tmp_path / "run.zarr", live=Live(every=1))
    loss_of(model, (X, Y)).backward()
    recorder.step()
    model.stops = True
    with pytest.raises(KeyboardInterrupt), recorder:
        loss_of(model, (X, Y))
    assert _get_current_function_mode_stack() == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert run_info(tmp_path / "run.zarr").status == "failed"
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["live/step"], [0])


def test_a_training_that_goes_on_after_an_interrupt_is_refused(tmp_path):
    model = Interrupted()
    recorder = Recorder(model, tmp_path / "run.zarr", live=Live(every=1))
    model.stops = True
    with pytest.raises(KeyboardInterrupt):
        loss_of(model, (X, Y))
    model.stops = False
    loss_of(model, (X, Y)).backward()
    with pytest.raises(CaptureError, match="a forward pass of step 0 was interrupted, so the recorder"):
        recorder.step()


ASKED = {
    "a saliency": lambda model, loss, x: torch.autograd.grad(loss, x, retain_graph=True),
    "a gradient's norm": lambda model, loss, x: torch.autograd.grad(
        3 * loss, model[2].weight, retain_graph=True
    ),
    "both": lambda model, loss, x: [ask(model, loss, x) for ask in list(ASKED.values())[:2]],
}


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_what_is_asked_of_a_training_pass_is_no_part_of_its_error(ask, first, tmp_path):
    model = network().double()
    x = X.double().requires_grad_()
    with Recorder(model, tmp_path / "run.zarr", live=Live(every=1)) as recorder:
        loss = loss_of(model, (x, Y))
        if first:
            ASKED[ask](model, loss, x)
        loss.backward(retain_graph=True)
        if not first:
            ASKED[ask](model, loss, x)
        recorder.step()
    live = open_run(tmp_path / "run.zarr")["live"]
    hidden = model[:2](x).detach()
    for layer, given in (("0", x.detach()), ("2", hidden)):
        error = torch.from_numpy(live[f"{layer}/error"].values[0])
        torch.testing.assert_close(error.T @ given, model[int(layer)].weight.grad, rtol=0, atol=1e-12)


def test_gradients_that_are_computed_and_assigned_are_recorded(tmp_path):
    model = network()
    with Recorder(model, tmp_path / "run.zarr", live=Live(every=1)) as recorder:
        loss = loss_of(model, (X, Y))
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        recorder.step()
    error = torch.from_numpy(open_run(tmp_path / "run.zarr")["live/0/error"].values[0])
    torch.testing.assert_close(error.T @ X, model[0].weight.grad)


class Skipping(nn.Module):
    """A network that skips a block between its layers at some steps."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.skips = True

    def forward(self, x):
        a = self.first(x)
        return self.last(torch.relu(a if self.skips else a + self.block(a)))


def test_a_layer_whose_gate_comes_and_goes_has_one_meaning(tmp_path):
    model = Skipping()
    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        Recorder(model, tmp_path / "run.zarr", live=Live(every=1)) as recorder,
    ):
        for step in range(4):
            model.skips = step % 2 == 0
            loss_of(model, (X, Y)).backward()
            recorder.step()
    words = [str(w.message) for w in caught if w.category is CaptureWarning and "'first'" in str(w.message)]
    assert words == [
        "layer 'first' was followed by relu in the first record of 'live', and is followed by no norm or "
        "gate at step 1: at such steps its error is recorded, but its activation, modulator and error_post "
        "are not, because they would belong to another tensor"
    ]
    layer = open_run(tmp_path / "run.zarr")["live/first"]
    assert layer.attrs["gate"] == "relu"
    for signal in ("activation", "modulator"):
        assert layer[signal][::2].notnull().all()
        assert layer[signal][1::2].isnull().all()
    assert layer["error"].notnull().all()
