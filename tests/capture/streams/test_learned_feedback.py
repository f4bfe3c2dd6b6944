"""Test that a learned B is recorded over time, unchanged by probes, and refused if it does not follow W."""

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Probe, Recorder
from fadiag.errors import CaptureError
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

RATE, DECAY, STEPS = 0.2, 0.05, 40
BATCH = labelled(16)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def learned():
    return convert(plain(), "kp")


def sgd(groups, **options):
    return torch.optim.SGD(groups, **{"lr": RATE, "weight_decay": DECAY, **options})


def train(model, optimizer, path=None, steps=STEPS, **options):
    torch.manual_seed(1)
    recorder = None if path is None else Recorder(model, path, optimizer=optimizer, every=1, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, BATCH).backward()
        optimizer.step()
        if recorder is not None:
            recorder.step()
    if recorder is not None:
        recorder.close()


def test_the_recorded_difference_decays_by_the_closed_form(tmp_path):
    model = learned()
    train(model, sgd(model.parameters()), tmp_path / "run.zarr")
    run = open_run(tmp_path / "run.zarr")
    for name in ("0", "3"):
        state = run[f"state/{name}"]
        difference = (state["weight"] - state["feedback"]).values.astype(np.float64)
        factors = (1 - RATE * DECAY) ** state["step"].values
        assert len(factors) == STEPS + 1
        np.testing.assert_allclose(difference, factors[:, None, None] * difference[0], rtol=0, atol=1e-5)
        assert np.abs(difference[0]).max() > 0.1
        assert state.attrs["feedback_kind"] == "layerwise"
        assert "feedback" not in run.get(f"static/{name}", {})


def test_a_recorded_run_ends_with_the_same_bits_as_a_bare_one(tmp_path):
    rng = np.random.default_rng(0)
    matrices = {"3": torch.from_numpy(rng.standard_normal((3, 8)).astype(np.float32))}
    probe = Probe(
        BATCH, loss_of, mode="train", redraws=2, gate_draws=2, feedbacks={"b": matrices}, jacobian_vectors=2
    )
    results = []
    for path in (None, tmp_path / "run.zarr"):
        model = learned()
        optimizer = sgd(model.parameters(), momentum=0.9)
        train(model, optimizer, path, steps=4, **({} if path is None else {"probes": {"probe": probe}}))
        tensors = {**model.state_dict(), "rng": torch.get_rng_state()}
        results.append(tensors | {f"{name} grad": p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    layer = open_run(tmp_path / "run.zarr")["probe/0"]
    assert layer.attrs["error_bp_check"] == "passed"
    assert np.abs(layer["error"] - layer["error_bp"]).max() > 1e-3


def before_converting():
    model = plain()
    optimizer = sgd(model.parameters())
    return convert(model, "kp"), [optimizer]


def without_decay():
    model = learned()
    feedback = [p for name, p in model.named_parameters() if name.endswith("feedback")]
    others = [p for name, p in model.named_parameters() if not name.endswith("feedback")]
    return model, [sgd([{"params": others}, {"params": feedback, "weight_decay": 0.0}])]


def by_another():
    model = learned()
    feedback = [p for name, p in model.named_parameters() if name.endswith("feedback")]
    others = [p for name, p in model.named_parameters() if not name.endswith("feedback")]
    return model, [sgd(others), torch.optim.Adam(feedback, RATE)]


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (
            before_converting,
            r"feedback B of layer '0' is in no parameter group, while its weight is in one of SGD, "
            r".*; convert the model before the optimizer is built",
        ),
        (
            without_decay,
            r"feedback B of layer '0' is updated by SGD, its weight by SGD, with weight_decay 0.0 "
            r"for 0.05; put both into one parameter group",
        ),
        (
            by_another,
            r"layer '0' is updated by Adam, its weight by SGD, with weight_decay 0 for 0.05; put both into",
        ),
    ],
)
def test_a_feedback_that_does_not_follow_its_weight_is_refused(build, match, tmp_path):
    model, optimizers = build()
    with pytest.raises(CaptureError, match=match):
        Recorder(model, tmp_path / "run.zarr", optimizer=optimizers, every=1)
    assert not (tmp_path / "run.zarr").exists()


def test_a_group_that_changes_before_the_first_update_is_refused(tmp_path):
    model = learned()
    feedback = [p for name, p in model.named_parameters() if name.endswith("feedback")]
    others = [p for name, p in model.named_parameters() if not name.endswith("feedback")]
    optimizer = sgd([{"params": others}, {"params": feedback}])
    recorder = Recorder(model, tmp_path / "run.zarr", optimizer=optimizer, every=1)
    optimizer.param_groups[1]["lr"] = RATE / 2
    loss_of(model, BATCH).backward()
    optimizer.step()
    with pytest.raises(CaptureError, match=r"layer '0' is updated by SGD, its weight by SGD, with lr"):
        recorder.step()


def layer_by_layer(model):
    return sgd([{"params": [*layer.parameters()]} for layer in (model[0], model[3])])


def feedback_apart(model):
    feedback = [p for name, p in model.named_parameters() if name.endswith("feedback")]
    others = [p for name, p in model.named_parameters() if not name.endswith("feedback")]
    return sgd([{"params": others}, {"params": feedback}])


def second_layer_only(model):
    model[0].requires_grad_(False)
    return sgd(model[3].parameters())


@pytest.mark.parametrize("build", [layer_by_layer, feedback_apart, second_layer_only])
def test_groups_with_equal_settings_and_weights_that_nobody_trains_are_fine(build, tmp_path):
    model = learned()
    train(model, build(model), tmp_path / "run.zarr", steps=3)
    state = open_run(tmp_path / "run.zarr")["state/3"]
    difference = (state["weight"] - state["feedback"]).values
    np.testing.assert_allclose(difference[-1], (1 - RATE * DECAY) ** 3 * difference[0], rtol=0, atol=1e-6)


def test_without_the_optimizer_nothing_is_known_of_its_groups(tmp_path):
    model, (optimizer,) = before_converting()
    with Recorder(model, tmp_path / "run.zarr", every=1) as recorder:
        loss_of(model, BATCH).backward()
        optimizer.step()
        recorder.step()
    assert "feedback" in open_run(tmp_path / "run.zarr")["state/0"]
