"""Test that a recorded run ends with the same bits as the run without a recorder."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.capture import Live, Probe, Recorder
from fadiag.errors import CaptureError
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


class Kinds(nn.Module):
    """A layer of every kind that a default adapter knows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(2, 12)
        self.volume = nn.Conv3d(1, 2, 2, padding=1)
        self.line = nn.Conv1d(2, 4, 3)
        self.turned = nn.ConvTranspose2d(4, 3, 2)
        self.plane = nn.Conv2d(3, 2, 2)
        self.out = nn.LazyLinear(3)
        self(torch.zeros(2, 12))

    def forward(self, x):
        x = x + self.table((x > 0).long()).mean(1)
        h = torch.relu(self.volume(x.reshape(-1, 1, 3, 2, 2))).flatten(2)
        h = torch.tanh(self.line(h))
        h = torch.relu_(self.turned(h[..., :32].reshape(-1, 4, 4, 8)))
        return self.out(torch.tanh(self.plane(h)).flatten(1))


class Send(torch.autograd.Function):
    """A backward pass inside a backward pass, as some direct rules have it."""

    @staticmethod
    def forward(ctx, y, places):
        ctx.places = places
        return y.view_as(y)

    @staticmethod
    def backward(ctx, gradient):
        ctx.places["h"].backward((gradient.float() @ ctx.places["matrix"]).to(ctx.places["h"].dtype))
        return gradient, None


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 3)
        self.places = {"matrix": torch.randn(3, 16)}

    def forward(self, x):
        self.places["h"] = h = torch.tanh(self.first(x))
        return Send.apply(self.last(h.detach().requires_grad_(torch.is_grad_enabled())), self.places)


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
    check="raise",
    gate_draws=1,
):
    loss_fn = half_loss_of if amp else loss_of
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    model = convert(build(), rule=rule, layers="*")
    optimizers = optimizers_of(model)
    x, y = torch.randn(STEPS, 8, 12), torch.randint(3, (STEPS, 8))
    recorder = None
    if path is not None:
        probe = Probe((x[0], y[0]), loss_fn, mode=mode, redraws=1, gate_draws=gate_draws)
        recorder = Recorder(
            model,
            path,
            optimizer=optimizers,
            probes={"probe": probe} if "probe" in streams else {},
            every=2,
            check=check,
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
        other = recorded[0][name]
        assert other is None if tensor is None else torch.equal(tensor, other), name
    assert bare[1:3] == recorded[1:3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "eval"},
        {"rule": "bp"},
        {"rule": "usf"},
        {"rule": "frsf"},
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


@pytest.mark.parametrize("rule", ["bp", "fa", "usf", "frsf", "brsf"])
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_recording_every_kind_of_layer_changes_no_bit(rule, tmp_path):
    bare = run(Kinds, adam, None, rule=rule)
    recorded = run(Kinds, adam, tmp_path / "run.zarr", rule=rule)
    check_same_bits(bare, recorded)
    kinds = {"table", "volume", "line", "turned", "plane", "out"}
    probe = open_run(tmp_path / "run.zarr")["probe"]
    assert set(probe.children) == kinds
    assert {probe[kind].attrs["error_bp_check"] for kind in kinds} == {"passed"}


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf"])
def test_recording_layers_of_biotorch_changes_no_bit(rule, tmp_path):
    constructor = pytest.importorskip("biotorch.layers.fa_constructor")

    def build():
        layers = [constructor.Linear(*sizes, layer_config={"type": rule}) for sizes in ((12, 9), (9, 3))]
        return nn.Sequential(layers[0], nn.BatchNorm1d(9), nn.ReLU(inplace=True), nn.Dropout(0.3), layers[1])

    bare = run(build, adam, None, rule="bp")
    recorded = run(build, adam, tmp_path / "run.zarr", rule="bp")
    check_same_bits(bare, recorded)
    assert open_run(tmp_path / "run.zarr")["probe/0"].attrs["error_bp_check"] == "passed"


@pytest.mark.filterwarnings("ignore:.*it is not known which gate:fadiag.errors.CaptureWarning")
@pytest.mark.parametrize("optimizers_of", [sgd, adam])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"amp": True}, {"streams": ("probe",)}], ids=str)
def test_a_backward_pass_inside_a_backward_pass_leaves_no_bit(optimizers_of, options, tmp_path):
    # The rule is not backpropagation, and no adapter says so. It goes through its inner graph only once.
    options = {**options, "rule": "bp", "check": "off", "gate_draws": 0}
    bare = run(Nested, optimizers_of, None, **options)
    recorded = run(Nested, optimizers_of, tmp_path / "run.zarr", **options)
    check_same_bits(bare, recorded)
    assert bare[0]["first.weight.grad"].any()
    assert open_run(tmp_path / "run.zarr")["probe/first/error"].values.any()


def test_a_reading_leaves_the_very_gradients_that_there_were(tmp_path):
    model = Nested()
    held = model.last.weight.grad = torch.ones(3, 16)
    batch = torch.randn(8, 12), torch.randint(3, (8,))
    probes = {"probe": Probe(batch, loss_of, signals=["error", "error_bp"], redraws=1)}
    with pytest.raises(CaptureError, match="error_bp of layer 'first' is not the derivative"):
        Recorder(model, tmp_path / "run.zarr", probes=probes)
    Recorder(model, tmp_path / "run.zarr", probes=probes, check="off").close()
    assert model.last.weight.grad is held
    assert (held == 1).all()
    others = [model.first.weight, model.first.bias, model.last.bias]
    assert all(parameter.grad is None for parameter in others)
