"""Test that the recorded gradient belongs to the update, with one optimizer step between two calls."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import Recorder
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import labelled

X, Y = labelled(16, torch.float64)
LR = 0.5


def small(rule="fa"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return convert(model, rule=rule).double()


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), LR, **options)


def back(model, rows=slice(None)):
    loss = functional.cross_entropy(model(X[rows]), Y[rows])
    loss.backward()
    return loss


def closure_of(model, optimizer, batches=(slice(None),)):
    def closure():
        optimizer.zero_grad()
        return sum(back(model, rows) for rows in batches)

    return closure


def follows_its_gradient(path, layers=("0", "2")):
    """Assert that every update is the SGD step along the gradient of the same record."""
    run = open_run(path)
    for layer in layers:
        state = run[f"state/{layer}"]
        gradient, update = state["gradient"].values[:-1], state["update"].values[:-1]
        assert gradient.any(axis=(1, 2)).all()
        np.testing.assert_allclose(update, -LR * gradient, rtol=0, atol=1e-14)


@pytest.mark.parametrize("given", ["positional", "keyword"])
@pytest.mark.parametrize("batches", [[slice(None)], [slice(0, 8), slice(8, 16)]], ids=["one", "accumulated"])
def test_gradients_that_a_closure_makes_are_those_of_the_update(given, batches, tmp_path):
    model = small()
    optimizer = sgd(model)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(3):
            closure = closure_of(model, optimizer, batches)
            optimizer.step(closure) if given == "positional" else optimizer.step(closure=closure)
            recorder.step()
    follows_its_gradient(tmp_path / "run.zarr")


def test_of_many_evaluations_the_first_is_taken_with_the_weights_of_the_step(tmp_path):
    model = small()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    expected, evaluated = [], []
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            back(model)
            expected.append(model[0].weight.grad.numpy().copy())
            optimizer.zero_grad()
            closure = closure_of(model, optimizer)
            optimizer.step(lambda closure=closure: evaluated.append(0) or closure())
            recorder.step()
    assert len(evaluated) > 6
    gradient = open_run(tmp_path / "run.zarr")["state/0/gradient"].values
    np.testing.assert_allclose(gradient[:-1], expected, rtol=0, atol=1e-15)


def test_a_feedback_drawn_in_a_closure_is_the_one_that_was_used(tmp_path):
    model = small("brsf")
    optimizer = sgd(model)
    used = []

    def closure():
        optimizer.zero_grad()
        loss = back(model)
        used.append(model[2].feedback.detach().numpy().copy())
        return loss

    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(3):
            optimizer.step(closure)
            recorder.step()
    feedback = open_run(tmp_path / "run.zarr")["state/2/feedback"].values
    np.testing.assert_array_equal(feedback[:-1], used)


def test_a_closure_that_fails_may_be_tried_again(tmp_path):
    model = small()
    optimizer = sgd(model)

    def failing():
        back(model)
        raise ZeroDivisionError

    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                optimizer.step(failing)
            optimizer.step(closure_of(model, optimizer))
            recorder.step()
    follows_its_gradient(tmp_path / "run.zarr")


def replaced(model, optimizer, recorder):
    optimizer = sgd(model)
    back(model)
    optimizer.step()
    recorder.step()


def twice(model, optimizer, recorder):
    for _ in range(2):
        back(model)
        optimizer.step()
    recorder.step()


def called_before(model, optimizer, recorder):
    back(model)
    recorder.step()
    optimizer.step()


def not_called(model, optimizer, recorder):
    back(model)
    optimizer.step()
    recorder.close()


@pytest.mark.parametrize(
    ("loop", "match"),
    [
        (
            replaced,
            r"weight of layer '0' changed at step 0, but the SGD .* did not step; give it the optimiz",
        ),
        (
            twice,
            r"SGD stepped 2 times at step 0, .*call recorder.step\(\) once after each optimizer.step\(\)",
        ),
        (called_before, r"gradients of step 0 are there, but no optimizer stepped before .* not before it"),
        (not_called, r"SGD stepped after the last recorder.step\(\), so the update of step 0 is missing"),
    ],
)
def test_an_update_that_is_not_one_step_of_the_optimizer_is_refused(loop, match, tmp_path):
    model = small()
    optimizer = sgd(model)
    with (
        pytest.raises(CaptureError, match=match),
        Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder,
    ):
        loop(model, optimizer, recorder)
    assert run_info(tmp_path / "run.zarr").status == "failed"
    # Without the optimizer nothing is known of its steps, but for weights that changed without a call.
    never = pytest.warns(CaptureWarning, match=r"recorder\.step\(\) was never called")
    with (
        never if loop is not_called else nullcontext(),
        Recorder(model, tmp_path / "bare.zarr", every=1) as recorder,
    ):
        loop(model, optimizer, recorder)


def test_calls_that_come_too_early_are_refused_at_the_end_if_the_first_step_is_not_recorded(tmp_path):
    model = small()
    optimizer = sgd(model)
    recorder = Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=[1, 3])
    for _ in range(3):
        called_before(model, optimizer, recorder)
    with pytest.raises(CaptureError, match=r"update of step 3 is missing: .* or each came before its update"):
        recorder.close()


class Wrapping(torch.optim.Optimizer):
    """Like sharpness-aware minimization: its own step is never called."""

    def __init__(self, model):
        super().__init__(model.parameters(), {})
        self.inner = sgd(model)

    def step(self):
        raise NotImplementedError


def test_of_an_optimizer_that_wraps_another_the_inner_one_is_to_be_given(tmp_path):
    model = small()
    optimizer = Wrapping(model)
    recorder = Recorder(model, tmp_path / "outer.zarr", optimizer=optimizer, every=1)
    back(model)
    optimizer.inner.step()
    with pytest.raises(CaptureError, match=r"the Wrapping that .* \(the inner one if one wraps another;"):
        recorder.step()
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer.inner, every=1) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            back(model)
            optimizer.inner.step()
            recorder.step()
    follows_its_gradient(tmp_path / "run.zarr")


def test_optimizers_that_take_turns_and_steps_that_are_left_out_are_no_finding(tmp_path):
    model = small()
    below, above = (torch.optim.SGD(model[i].parameters(), LR) for i in (0, 2))
    with Recorder(model, tmp_path / "run.zarr", optimizer=[below, above], every=1) as recorder:
        for optimizer in (below, above, None, below):
            model.zero_grad()
            back(model)
            if optimizer is not None:
                optimizer.step()
            recorder.step()
    run = open_run(tmp_path / "run.zarr")
    for layer, stepped in (("0", [1, 0, 0, 1]), ("2", [0, 1, 0, 0])):
        state = run[f"state/{layer}"]
        assert state["update"].values[:-1].any(axis=(1, 2)).tolist() == list(map(bool, stepped))
        assert np.isfinite(state["gradient"].values[:-1]).all(axis=(1, 2)).tolist() == list(
            map(bool, stepped)
        )


def test_optimizers_that_step_within_the_backward_pass_are_recorded(tmp_path):
    model = small()
    optimizers = []
    for parameter in model.parameters():
        optimizers.append(torch.optim.SGD([parameter], LR))

        def step(parameter, own=optimizers[-1]):
            own.step()
            own.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizers, every=1) as recorder:
        for _ in range(3):
            back(model)
            recorder.step()
    follows_its_gradient(tmp_path / "run.zarr")


def test_a_step_that_calls_its_parents_is_one_and_its_gradient_the_one_given_to_it(tmp_path):
    class Doubling(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.mul_(2)
            return super().step(closure)

    sgd(small())  # now torch calls the hooks of SGD.step too
    model = small()
    optimizer = Doubling(model.parameters(), LR / 2)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            back(model)
            optimizer.step()
            recorder.step()
    follows_its_gradient(tmp_path / "run.zarr")


def test_momentum_is_that_of_the_optimizer_that_holds_the_weight(tmp_path):
    model = small()
    first, then = sgd(model, momentum=0.9), torch.optim.SGD(model[0].parameters(), LR)
    back(model)
    first.step()
    del first.param_groups[0]["params"][:2]  # the first layer's: its buffer stays behind
    with Recorder(model, tmp_path / "run.zarr", optimizer=[first, then], every=1) as recorder:
        first.step()
        then.step()
        recorder.step()
    run = open_run(tmp_path / "run.zarr")
    assert "momentum" not in run["state/0"]
    assert np.isfinite(run["state/2/momentum"].values[0]).all()


def test_a_stage_unfrozen_in_mid_run_has_its_momentum_at_once(tmp_path):
    model = small()
    first, *rest = (module for module in model if isinstance(module, nn.Linear))
    first.requires_grad_(False)
    optimizer = torch.optim.SGD([p for module in rest for p in module.parameters()], LR, momentum=0.9)
    with Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1) as recorder:
        for step in range(2):
            if step == 1:
                first.requires_grad_(True)
                optimizer.add_param_group({"params": list(first.parameters())})
            optimizer.zero_grad()
            back(model)
            optimizer.step()
            recorder.step()
    state = open_run(tmp_path / "run.zarr")["state/0"]
    np.testing.assert_array_equal(state["momentum"][1], state["gradient"][1])
    assert state["momentum"][1].any()


@pytest.mark.parametrize(
    ("signal", "rule", "match"),
    [
        (
            "momentum",
            "fa",
            r"'momentum' would never be there: the momentum of SGD is 0.*leave it out of state=",
        ),
        ("feedback", "fa", r"'feedback' would never be there: no recorded layer's feedback changes"),
        ("bias", "fa", r"'bias' would never be there: no recorded layer has a bias"),
    ],
)
def test_a_signal_that_cannot_be_is_refused_where_it_is_asked_for_by_name(signal, rule, match, tmp_path):
    model = convert(nn.Sequential(nn.Linear(6, 3, bias=False)), rule=rule)
    with pytest.raises(InputError, match=match):
        Recorder(model, tmp_path / "run.zarr", optimizer=sgd(model), state=["weight", signal])
    assert not (tmp_path / "run.zarr").exists()


def test_a_signal_that_is_in_no_record_is_refused_at_the_end(tmp_path):
    model = small()
    optimizer = torch.optim.Adagrad(model.parameters())  # which it does not say
    recorder = Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, state=["update", "momentum"])
    back(model)
    optimizer.step()
    recorder.step()
    with pytest.raises(
        CaptureError,
        match=r"'momentum' was asked for and is in no record: the optimizers store no momentum_b",
    ):
        recorder.close()
    run = open_run(tmp_path / "run.zarr")
    assert run.attrs["status"] == "complete"
    assert run["state/0/update"].values[0].any()
