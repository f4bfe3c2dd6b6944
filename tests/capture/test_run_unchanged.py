"""A recorded run and the same run unrecorded end with the same bits."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import loss_of

STEPS = 5


def mlp():
    return nn.Sequential(
        nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.3),
        nn.Linear(16, 16, bias=False), nn.Tanh(), nn.Linear(16, 3),
    )  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (3, 2, 2)), nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True),
        nn.Dropout2d(0.3), nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def sgd(model):
    return [torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)]


def adam(model):
    return [torch.optim.Adam(model.parameters(), 0.01)]


def muon(model):
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return [torch.optim.Muon(matrices, 0.02, weight_decay=0), torch.optim.Adam(others, 0.01)]


def lbfgs(model):
    return [torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3)]


def half_loss_of(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return loss_of(model, batch)


STREAMS = ("probe", "live")


def run(
    build,
    optimizers_of,
    path,
    *,
    rule="fa",
    mode="train",
    accumulate=1,
    amp=False,
    streams=STREAMS,
    closure=False,
):
    loss_fn = half_loss_of if amp else loss_of
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    model = convert(build(), rule=rule)
    optimizers = optimizers_of(model)
    x, y = torch.randn(STEPS, 8, 12), torch.randint(3, (STEPS, 8))
    recorder = None
    if path is not None:
        probe = Probe((x[0], y[0]), loss_fn, mode=mode, redraws=1, gate_draws=1)
        recorder = Recorder(
            model,
            path,
            optimizer=optimizers,
            probes={"probe": probe} if "probe" in streams else {},
            every=2,
            live=Live(every=1) if "live" in streams else None,
        )
    for step in range(STEPS):

        def evaluate(step=step):
            for optimizer in optimizers:
                optimizer.zero_grad()
            for part in range(accumulate):
                loss = loss_fn(model, (x[step - part], y[step - part]))
                (loss / accumulate).backward()
            return loss

        loss = None if closure else evaluate()
        for optimizer in optimizers:
            loss = optimizer.step(evaluate) if closure else optimizer.step() or loss
        if recorder is not None:
            recorder.step(loss=loss.item())
    if recorder is not None:
        recorder.close()
    tensors = dict(model.state_dict())
    tensors |= {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    for i, optimizer in enumerate(optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer{i}.{j}.{k}": torch.as_tensor(v)
                for k, v in state.items()
                if not isinstance(v, (list, type(None)))  # LBFGS's history, of which the weights are made
            }
    tensors["rng"] = torch.get_rng_state()
    return tensors, (random.random(), np.random.rand()), [m.training for m in model.modules()], model


def check_same_bits(bare, recorded):
    """Check what two runs leave: weights, buffers and optimizer, then random states and modes."""
    assert bare[0].keys() == recorded[0].keys()
    for name, tensor in bare[0].items():
        assert torch.equal(tensor, recorded[0][name]), name
    assert bare[1:3] == recorded[1:3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "eval"},
        {"rule": "bp"},
        {"rule": "brsf"},
        {"accumulate": 2},
        {"amp": True},
        {"amp": True, "accumulate": 2},
        {"streams": ("probe",)},
        {"streams": ("live",)},
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizers_of", [sgd, adam, muon])
@pytest.mark.parametrize("build", [mlp, cnn])
def test_recording_changes_no_bit(build, optimizers_of, options, tmp_path):
    bare = run(build, optimizers_of, None, **options)
    recorded = run(build, optimizers_of, tmp_path / "run.zarr", **options)
    check_same_bits(bare, recorded)
    # Nothing stays attached, and everything was really recorded.
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in recorded[3].modules())
    store = open_run(tmp_path / "run.zarr")
    layers = [name for name, m in recorded[3].named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    streams, accumulate = options.get("streams", STREAMS), options.get("accumulate", 1)
    assert [stream for stream in STREAMS if stream in store.children] == list(streams)
    for layer in layers:
        for signal in (
            (
                "activation",
                "modulator",
                "error_post",
                "error",
                "error_bp",
                "gradient",
                "gradient_bp",
            )
            if "probe" in streams
            else ()
        ):
            array = store[f"probe/{layer}/{signal}"].values
            assert list(store["probe"]["step"].values) == [0, 2, 4, 5]
            assert np.isfinite(array).all()
            assert array.any()
        for signal in ("activation", "modulator", "error") if "live" in streams else ():
            array = store[f"live/{layer}/{signal}"].values
            assert array.shape[:2] == (STEPS, 8 * accumulate)
            assert np.isfinite(array).all()
            assert array.any()
        for signal in ("gradient", "momentum", "update"):
            array = store[f"state/{layer}/{signal}"].values
            assert np.isfinite(array[:-1]).all()
            assert np.isnan(array[-1]).all()
            assert array[:-1].any()


@pytest.mark.parametrize("options", [{}, {"rule": "brsf"}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("optimizers_of", [sgd, lbfgs])
def test_recording_a_step_with_a_closure_changes_no_bit(optimizers_of, options, tmp_path):
    options |= {"closure": True, "streams": ("probe",)}
    bare = run(mlp, optimizers_of, None, **options)
    recorded = run(mlp, optimizers_of, tmp_path / "run.zarr", **options)
    check_same_bits(bare, recorded)
    assert open_run(tmp_path / "run.zarr")["state/0/gradient"].values[:-1].any()
