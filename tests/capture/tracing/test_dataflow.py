"""Test that the gate and the norm of a layer are found, or reported as unknown."""

import gc
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fadiag
from fadiag.capture import DEFAULT_ADAPTERS, Live, Probe, Recorder
from fadiag.capture.layers.selection import choose_layers
from fadiag.capture.tracing.dataflow import Node
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.rules import convert
from fadiag.store import open_run
from tests.capture.toy import labelled, loss_of

X, Y = labelled(12, torch.float64)


def read(model, loss=loss_of, **options):
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    return {x.name: x for x in Probe((X, Y), loss, **options).read(model, layers)}


class Model(nn.Module):
    """Two layers with anything between them."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = (nn.Linear(6, n).double() for n in (6, 3))
        self.between = between

    def forward(self, x):
        return self.last(self.between(self.first(x)))


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


def thresholded(a):
    a = a.clone()
    a[a < 0] = 0
    return a


def normed_by_hand(a):
    centered = a - a.mean(-1, keepdim=True)
    return torch.relu(centered / (centered.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt())


def looked_at(a):
    """Metrics, printing and comparisons, with and without a gradient of their own, are no use of a."""
    _ = a.norm(), a.abs().mean(), a.detach().exp(), (a > 0).double().mean().item(), a.shape, repr(a)
    with torch.no_grad():
        a.pow(2).mean()
    return torch.relu(a)


SCALE = nn.Parameter(torch.linspace(-1, 2, 6, dtype=torch.float64))
KNOWN = {
    "silu": lambda a: a * torch.sigmoid(a),
    "clamp": lambda a: a.clamp(min=0),
    "clamp_min": lambda a: a.clamp_min(0),
    "maximum": lambda a: torch.maximum(a, torch.zeros_like(a)),
    "threshold": nn.Threshold(0.1, 0.0),
    "log_sigmoid": nn.LogSigmoid(),
    "hardtanh": nn.ReLU6(),
    "gelu": lambda a: functional.gelu(a.float()).double(),
    "tanh": lambda a: torch.tanh(SCALE * a - 1),
    "elu": lambda a: functional.elu_(functional.normalize(a)),
    "relu": looked_at,
    "sigmoid": lambda a: torch.sigmoid(a * (torch.arange(6) % 2)),
    "softplus": lambda a: functional.softplus(a[:, None].flip(-1)).squeeze(1),
}


@pytest.mark.parametrize("gate", KNOWN)
@pytest.mark.parametrize("rule", ["bp", "fa"])
def test_a_gate_that_is_known_has_the_true_activation_and_credit(gate, rule):
    model = Model(KNOWN[gate])
    if rule == "fa":
        convert(model, layers=["last"], seed=1)
    layer = read(model)["first"]
    assert layer.attrs["gate"] == gate
    a = model.first(X)
    h = model.between(a.clone())
    (modulator,) = torch.autograd.grad(loss_of(model.last, (h, Y)), h)
    (error,) = torch.autograd.grad(loss_of(model.last, (model.between(1 * a), Y)), a)
    for name, expected in (("activation", h.detach()), ("modulator", modulator), ("error", error)):
        found = layer.signals[name].array.reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 if gate == "gelu" else 1e-14)


UNKNOWN = {
    "swish as a function": (Swish.apply, "'Swish'"),
    "hard swish": (lambda a: a * functional.relu6(a + 3) / 6, "'relu6' and 'mul'"),
    "mish": (lambda a: a * torch.tanh(functional.softplus(a)), "'softplus' and 'mul'"),
    "learned swish": (lambda a: a * torch.sigmoid(SCALE * a), "'sigmoid' and 'mul'"),
    "where": (lambda a: torch.where(a > 0, a, 0.1 * a), "'where'"),
    "mask": (lambda a: a * (a > 0), "'mul'"),
    "set": (thresholded, "'__setitem__'"),
    "sin": (torch.sin, "'sin'"),
    "softmax": (lambda a: a.softmax(1), "'softmax'"),
    "glu": (lambda a: functional.glu(torch.cat([a, a], 1)), "'glu'"),
    "squared relu": (lambda a: torch.relu(a) ** 2, "'relu' and 'pow'"),
    "two gates": (lambda a: torch.relu(a) + torch.tanh(a), "'relu' and 'tanh'"),
    "relu and itself": (lambda a: torch.relu(a) + a, "'relu' and 'add'"),
    "gate of a part": (lambda a: torch.cat([torch.relu(a[:, :3]), a[:, 3:].sin()], 1), "'relu' and 'sin'"),
    "norm by hand": (normed_by_hand, "'sub'"),
    "straight through": (lambda a: a + (a.sign() - a).detach(), "'add'"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_gate_that_is_not_known_is_reported_and_not_guessed(name):
    between, through = UNKNOWN[name]
    model = convert(Model(between), layers=["last"], seed=1)
    with pytest.warns(CaptureWarning) as caught:
        layer = read(model)["first"]
    assert str(caught[0].message) == (
        f"layer 'first': its output goes through {through}, and it is not known which gate that is; its "
        "activation, modulator and error_post are not recorded, its error and gradient are; say by "
        "Recorder(passes=..., gates=...) which function or module merely passes its input on and which is "
        "the gate, use the gate's own function (torch.nn.functional.silu, say, and not its formula), or "
        "leave these signals out by signals=[...]"
    )
    assert layer.attrs["gate"] == "unknown"
    assert layer.attrs["norm"] == ""
    assert set(layer.signals) == {"error", "error_bp", "gradient", "gradient_bp"}
    a = model.first(X)
    (error,) = torch.autograd.grad(loss_of(model.last, (between(1 * a), Y)), a)
    np.testing.assert_allclose(layer.signals["error"].array, error, rtol=0, atol=1e-14)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(model, signals=["error", "gradient"])  # the way out


class Stream(Model):
    """A residual stream from the first layer on: no gate behind the first layer is its own."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()).double())
        self.inner, self.skip = (nn.Linear(6, n).double() for n in (6, 3))

    def forward(self, x):
        s = self.first(x)
        s = s + self.inner(self.between(s))
        return self.last(torch.relu(s)) + self.skip(s)


def test_an_output_that_is_read_as_it_is_has_no_gate():
    model = Stream()
    found = read(model)
    assert [(x.attrs["norm"], x.attrs["gate"]) for x in found.values()] == [("", "")] * 4
    first = found["first"].signals
    np.testing.assert_array_equal(first["activation"].array, model.first(X).detach())
    np.testing.assert_array_equal(first["modulator"].array, first["error"].array)


class RawStream(Model):
    """A residual stream of plain sums, which layers read through gates of their own, the last one too."""

    def __init__(self):
        super().__init__(None)
        self.second, self.third = (nn.Linear(6, 6).double() for _ in range(2))

    def forward(self, x, record=lambda name, output: output):
        x = record("first", self.first(x))
        x = x + record("second", self.second(torch.relu(x)))
        x = x + record("third", self.third(torch.tanh(x)))
        return record("last", self.last(torch.sigmoid(x)))


def test_a_gate_on_a_residual_stream_is_not_that_of_a_layer_that_adds_to_it():
    model, outputs = RawStream(), {}
    found = read(model)
    by_hand = model(X, outputs.setdefault)
    errors = torch.autograd.grad(functional.cross_entropy(by_hand, Y), list(outputs.values()))
    assert {name: layer.attrs["gate"] for name, layer in found.items()} == {
        "first": "",
        "second": "",
        "third": "sigmoid",  # nothing else reads the sum that it adds to
        "last": "",
    }
    for (name, output), error in zip(outputs.items(), errors, strict=True):
        expected = {"activation": output.detach(), "modulator": error, "error_post": error, "error": error}
        if name == "third":
            gate = torch.sigmoid(outputs["first"] + outputs["second"] + output).detach()
            slope = gate * (1 - gate)
            expected |= {"activation": gate, "modulator": error / slope}
        for signal, values in expected.items():
            np.testing.assert_allclose(
                found[name].signals[signal].array, values, rtol=0, atol=1e-14, err_msg=f"{name} {signal}"
            )


def test_what_the_loss_does_to_an_output_is_no_gate():
    layer = read(Model(nn.Tanh()), lambda m, b: functional.softplus(-m(b[0])).square().mean())["last"]
    assert layer.attrs["gate"] == ""
    np.testing.assert_array_equal(layer.signals["modulator"].array, layer.signals["error"].array)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("hooked", ["first", "between"])
def test_a_backward_hook_of_the_users_hides_no_gate(hooked, tmp_path):
    plain, model = (Model(nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()).double()) for _ in range(2))
    model.get_submodule(hooked).register_full_backward_hook(lambda *_: None)
    expected, found = read(plain)["first"], read(model)["first"]
    assert (found.attrs["norm"], found.attrs["gate"]) == ("batch_norm", "relu")
    for signal, value in expected.signals.items():
        np.testing.assert_array_equal(found.signals[signal].array, value.array)
    with Recorder(model, tmp_path / "run.zarr", live=Live(every=1)) as recorder:
        loss_of(model, (X, Y)).backward()
        recorder.step()
    assert open_run(tmp_path / "run.zarr")["live/first"].attrs["gate"] == "relu"


def test_live_signals_of_several_backward_passes_add_up(tmp_path):
    model = Model(nn.ReLU())
    signals = ("activation", "modulator", "error_post", "error")
    with Recorder(model, tmp_path / "run.zarr", live=Live(signals, every=1)) as recorder:
        output = model(X)
        torch.autograd.grad(output.square().sum(), list(model.last.parameters()), create_graph=True)
        functional.cross_entropy(output, Y).backward(retain_graph=True)
        output.square().mean().backward()
        recorder.step()
    layers = open_run(tmp_path / "run.zarr")["live"]
    for name, below in (("first", X), ("last", torch.from_numpy(layers["first/activation"].values[0]))):
        gradient = layers[f"{name}/error"].values[0].T @ below.numpy()
        np.testing.assert_allclose(gradient, model.get_submodule(name).weight.grad, rtol=0, atol=1e-14)
    for signal in ("modulator", "error_post"):
        np.testing.assert_array_equal(layers[f"last/{signal}"].values, layers["last/error"].values)


@pytest.mark.parametrize("create_graph", [True, False])
def test_a_probe_forgets_the_backward_passes_inside_its_loss(create_graph):
    def loss(model, batch):
        x = batch[0].clone().requires_grad_()
        output = model(x)
        (slope,) = torch.autograd.grad(
            output.logsumexp(1).sum(), x, create_graph=create_graph, retain_graph=True
        )
        return functional.cross_entropy(output, batch[1]) + (slope.norm(dim=1) - 1).square().mean()

    model = Model(nn.Tanh())
    found = read(model, loss)
    seen = {}
    for name in ("first", "between", "last"):
        model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
    grads = torch.autograd.grad(loss(model, (X, Y)), list(seen.values()))
    for (name, signal), expected in zip(
        (("first", "error"), ("first", "modulator"), ("last", "modulator")), grads, strict=True
    ):
        np.testing.assert_allclose(found[name].signals[signal].array, expected, rtol=0, atol=1e-14)
    for signal in ("error", "error_post"):
        np.testing.assert_array_equal(
            found["last"].signals[signal].array, found["last"].signals["modulator"].array
        )


class Nested(Model):
    def forward(self, x, outer=True):
        return self.last(self(x, outer=False)) if outer else torch.tanh(self.first(x))


def test_a_model_that_calls_itself_is_recorded_to_its_end(tmp_path):
    model = Nested(None)
    with Recorder(
        model, tmp_path / "run.zarr", probes={"p": Probe((X, Y), loss_of)}, live=Live(every=1)
    ) as r:
        loss_of(model, (X, Y)).backward()
        r.step()
    run = open_run(tmp_path / "run.zarr")
    assert list(run["live"].children) == list(run["p"].children) == ["first", "last"]
    for name in ("first", "last"):
        assert run[f"live/{name}"].attrs["gate"] == ("tanh" if name == "first" else "")
        np.testing.assert_array_equal(run[f"live/{name}/error"].values[0], run[f"p/{name}/error"].values[0])


def test_a_layer_of_an_unknown_gate_is_analyzed_by_what_it_has(tmp_path):
    model = convert(Model(torch.sin))
    probe = Probe((X, Y), loss_of, gate_draws=2, jacobian_vectors=3)
    with pytest.warns(CaptureWarning, match="'sin'"), Recorder(
        model, tmp_path / "run.zarr", probes={"p": probe}, layers=["first", "last"]
    ):  # fmt: skip
        pass
    results = fadiag.analyze(tmp_path / "run.zarr")["p"]
    values = results.sel(layer="first")
    assert np.isfinite(values["error_participation_ratio_raw"]).all()
    assert np.isnan(values["modulator_participation_ratio_raw"]).all()
    assert np.isfinite(results.sel(layer="last")["modulator_participation_ratio_raw"]).all()


def test_what_a_pass_saved_is_freed_without_the_garbage_collector(tmp_path):
    model = Model(nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()).double())
    gc.collect()
    gc.disable()
    earlier = [x for x in gc.get_objects() if type(x) is Node]  # other tests' failures may hold some
    try:
        with Recorder(
            model, tmp_path / "run.zarr", live=Live(every=1), probes={"p": Probe((X, Y), loss_of)}
        ) as r:
            loss_of(model, (X, Y)).backward()
            r.step()
        nodes = [x for x in gc.get_objects() if type(x) is Node and all(x is not y for y in earlier)]
        assert not [x.name for x in nodes if x.activation is not None or x.gradient is not None]
    finally:
        gc.enable()


VIEWS = {
    "reshaped": lambda a: a.view(3, 4, 6),
    "transposed": lambda a: a.t(),
    "transposed twice": lambda a: a.t().view(2, 3, 12).transpose(0, 1),
    "pooled": lambda a: functional.avg_pool1d(a[:, None], 2)[:, 0],
    "normed": lambda a: functional.instance_norm(a.view(12, 2, 3)),
    "shifted": lambda a: (a + 1).view(6, 12),
}


def padded(h):
    h = h.contiguous().view(12, -1)
    return functional.pad(h, (0, 6 - h.shape[1]))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("gate", [functional.relu, functional.leaky_relu])
def test_a_gate_in_place_on_a_view_is_seen_like_any_other(view, gate):
    found = []
    for inplace in (False, True):
        model = Model(lambda a, inplace=inplace: padded(gate(VIEWS[view](a), inplace=inplace)))
        layer = read(model)["first"]
        assert layer.attrs["gate"] == gate.__name__
        found.append(layer.signals)
    assert set(found[0]) == set(found[1]) >= {"activation", "modulator", "error_post", "error"}
    for name, signal in found[0].items():
        np.testing.assert_array_equal(found[1][name].array, signal.array, err_msg=name)


class Frozen(nn.Module):
    """A network whose first layer runs under no_grad, as a frozen backbone does."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(6, 5).double(), nn.Linear(5, 3).double()

    def forward(self, x):
        with torch.no_grad():
            h = torch.relu(self.backbone(x))
        return self.head(h)


def test_a_backbone_under_no_grad_is_left_out_with_a_warning(tmp_path):
    match = r"'backbone' is never called \(outside of no_grad\)\. Name the layers"
    model = Frozen()
    with pytest.warns(CaptureWarning, match=match), Recorder(model, tmp_path / "a.zarr", probes=probes()):
        pass
    assert "backbone" not in open_run(tmp_path / "a.zarr")["p"].children
    with pytest.raises(CaptureError, match="'backbone' was asked for by name and is never called"):
        Recorder(model, tmp_path / "b.zarr", probes=probes(), layers=["backbone", "head"])


def probes():
    return {"p": Probe((X, Y), loss_of)}
