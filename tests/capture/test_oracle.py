"""Compare the signals with independent computations in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import DEFAULT_ADAPTERS, PROBE_SIGNALS, Probe
from fadiag.capture.layers.selection import choose_layers
from fadiag.errors import CaptureError
from fadiag.rules import convert
from fadiag.spectra import effective_rank_of_spectrum, participation_ratio_of_spectrum
from tests.capture.toy import loss_of

N = 12


def read(model, batch, **options):
    probe = Probe(batch, loss_of, **options)
    return {x.name: x for x in probe.read(model, choose_layers(model, DEFAULT_ADAPTERS, None))}


def values(layer, name):
    return layer.signals[name].array


def batch_of(*shape, classes=4):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (N,), generator=generator)


def tiny(array, expected):
    np.testing.assert_allclose(array, expected, rtol=0, atol=1e-12)


def test_mlp_equals_the_recursion_by_hand():
    torch.manual_seed(0)
    sizes = (6, 9, 8, 4)
    layers = [nn.Linear(i, o) for i, o in pairwise(sizes)]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Tanh(), layers[2]).double()
    convert(model, seed=1)
    x, y = batch_of(6)
    found = read(model, (x, y), signals=("input", *PROBE_SIGNALS))
    W, b, B = (
        [getattr(layer, what).detach().numpy() for layer in layers] for what in ("weight", "bias", "feedback")
    )
    a1 = x.numpy() @ W[0].T + b[0]
    h1 = np.maximum(a1, 0)
    h2 = np.tanh(h1 @ W[1].T + b[1])
    logits = h2 @ W[2].T + b[2]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta3 = (p - np.eye(4)[y.numpy()]) / N
    for suffix, M in (("", B), ("_bp", W)):
        m2 = delta3 @ M[2]
        delta2 = m2 * (1 - h2**2)
        m1 = delta2 @ M[1]
        delta1 = m1 * (a1 > 0)
        for name, error, modulator, below in (
            ("0", delta1, m1, x.numpy()), ("2", delta2, m2, h1), ("4", delta3, delta3, h2),
        ):  # fmt: skip
            tiny(values(found[name], f"error{suffix}"), error)
            tiny(values(found[name], f"modulator{suffix}"), modulator)
            tiny(values(found[name], f"gradient{suffix}"), error.T @ below)
    for name, h, below in (("0", h1, x.numpy()), ("2", h2, h1), ("4", logits, h2)):
        tiny(values(found[name], "activation"), h)
        tiny(values(found[name], "input"), below)
        tiny(values(found[name], "error_post"), values(found[name], "error"))
    assert [x.attrs["gate"] for x in found.values()] == ["relu", "tanh", ""]


class Block(nn.Module):
    """Convolutions, a norm of any kind, in-place gates and an in-place residual sum before a gate."""

    def __init__(self, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.norm1 = norm()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = norm()
        self.out = nn.Linear(4 * 25, 4)

    def forward(self, x):
        h = functional.relu_(self.norm1(self.conv1(x)))
        z = self.norm2(self.conv2(h))
        z += h
        return self.out(z.relu_().flatten(1))


def straight(x, module, matrix):
    """The layer with ``matrix`` in its backward pass, without any autograd function of fadiag."""
    conv = isinstance(module, nn.Conv2d)
    apply = (lambda t, w, b=None: functional.conv2d(t, w, b, padding=1)) if conv else functional.linear
    carrier = apply(x, matrix)
    return apply(x.detach(), module.weight, module.bias) + (carrier - carrier.detach())


NORMS = {
    "batch": lambda: nn.BatchNorm2d(4),
    "layer": lambda: nn.LayerNorm((4, 5, 5)),
    "group": lambda: nn.GroupNorm(2, 4),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("norm", NORMS)
def test_residual_block_below_norms_equals_an_autograd_oracle(norm, mode):
    torch.manual_seed(0)
    model = convert(Block(NORMS[norm]).double(), seed=2)
    for parameter in (*model.norm1.parameters(), *model.norm2.parameters()):
        nn.init.normal_(parameter)
    x, y = batch_of(2, 5, 5)
    found = read(model, (x, y), mode=mode)
    model.train(mode == "train")
    for suffix in ("", "_bp"):
        matrix = {
            m: m.weight.detach() if suffix else m.feedback for m in (model.conv1, model.conv2, model.out)
        }
        a1 = straight(x.clone().requires_grad_(), model.conv1, matrix[model.conv1])
        z1 = model.norm1(a1)
        h1 = z1.relu()
        a2 = straight(h1, model.conv2, matrix[model.conv2])
        z2 = model.norm2(a2) + h1
        h2 = z2.relu()
        loss = functional.cross_entropy(straight(h2.flatten(1), model.out, matrix[model.out]), y)
        grads = torch.autograd.grad(loss, [a1, z1, h1, a2, z2, h2, model.conv1.weight])
        for name, (error, post, modulator), h in (("conv1", grads[:3], h1), ("conv2", grads[3:6], h2)):
            tiny(values(found[name], f"error{suffix}"), error)
            tiny(values(found[name], f"modulator{suffix}"), modulator)
            if not suffix:
                tiny(values(found[name], "error_post"), post)
                tiny(values(found[name], "activation"), h.detach())
        tiny(values(found["conv1"], f"gradient{suffix}"), grads[-1].reshape(4, -1))
    assert found["conv1"].attrs["norm"] == f"{norm}_norm"
    assert found["conv2"].attrs["gate"] == "relu"
    assert found["conv1"].signals["error"].dims == ("sample", "channel", "height", "width")


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_with_the_weight_as_feedback_both_errors_are_equal_to_the_last_bit(kind):
    torch.manual_seed(0)
    if kind == "mlp":
        model, x = (
            nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(inplace=True), nn.Linear(9, 4)),
            (6,),
        )
    else:
        model, x = Block(NORMS["batch"]), (2, 5, 5)
    convert(model.double())
    for module in model.modules():
        if hasattr(module, "feedback"):
            module.feedback.copy_(module.weight.detach())
    found = read(model, batch_of(*x), mode="train")
    for layer in found.values():
        for signal in ("error", "modulator", "gradient"):
            assert values(layer, signal).any()
            np.testing.assert_array_equal(values(layer, signal), values(layer, f"{signal}_bp"))


def test_a_model_without_feedback_can_be_read_with_one():
    """BP-trained weights under B give what the converted model gives, and FA ones under W give error_bp."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).double()
    B = torch.randn(4, 9, dtype=torch.float64)
    batch = batch_of(6)
    plain = read(model, batch, feedbacks={"b": {"2": B}})
    assert type(model[2]) is nn.Linear
    assert not hasattr(model[2], "feedback")
    np.testing.assert_array_equal(values(plain["0"], "error"), values(plain["0"], "error_bp"))
    convert(model, layers=["2"])
    model[2].feedback.copy_(B)
    converted = read(model, batch, feedbacks={"w": {"2": model[2].weight.detach()}})
    assert abs(values(plain["0"], "error_b") - values(plain["0"], "error")).max() > 1e-3
    np.testing.assert_array_equal(values(plain["0"], "error_b"), values(converted["0"], "error"))
    np.testing.assert_array_equal(values(converted["0"], "error_w"), values(converted["0"], "error_bp"))


def test_error_below_batch_norm_has_zero_column_means():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4)).double()
    found = read(convert(model), batch_of(6), mode="train")
    error, gradient = values(found["0"], "error"), values(found["0"], "gradient")
    tiny(error.mean(0), 0)
    # Exact but for batch norm's eps.
    assert abs((model[0].weight.detach().numpy() * gradient).sum(1)).max() < 1e-4 * abs(gradient).max()
    assert abs(values(found["0"], "error_post").mean(0)).max() > 1e-4


def test_the_same_dropout_masks_serve_every_pass_and_every_reading():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 4)).double())
    first = read(model, batch_of(6), mode="train")
    torch.rand(5)
    second = read(model, batch_of(6), mode="train")
    for name, layer in first.items():
        for signal, value in layer.signals.items():
            np.testing.assert_array_equal(value.array, second[name].signals[signal].array)
    dropped = [(values(first["0"], s) == 0) for s in ("modulator", "modulator_bp")]
    assert 0.3 < dropped[0].mean() < 0.7
    np.testing.assert_array_equal(*dropped)


def test_nulls_are_of_the_layers_own_gates_and_of_other_feedback():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(6, 30), nn.ReLU(inplace=True), nn.Linear(30, 4)).double())
    found = read(model, batch_of(6), redraws=40, gate_draws=30)
    first, last = found["0"], found["2"]
    null = participation_ratio_of_spectrum(values(first, "error_null_spectrum_raw"))
    assert null.shape == (40,)
    assert np.ptp(null) > 0
    assert abs(values(first, "error_null_cosine").mean()) < 0.2
    np.testing.assert_allclose(
        values(last, "error_null_cosine"), 1
    )  # the output error is always the true one
    np.testing.assert_allclose(values(last, "error_null_overlap"), 1)
    gates = values(first, "gate_null_spectrum_raw")
    assert gates.shape == (30, N)
    # Credit of rank 3 comes out of the gate with a higher rank.
    assert (effective_rank_of_spectrum(gates) > 3.5).all()
    assert "gate_null_spectrum_raw" not in last.signals
    assert last.attrs["no_gate_null"] == "no layer reads its output"


def test_a_layer_called_twice_is_two_layers_and_a_pool_has_its_own_axes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(6, 6)
            self.conv = nn.Conv1d(1, 4, 3)

        def forward(self, x):
            h = torch.tanh(self.shared(torch.tanh(self.shared(x))))
            return functional.relu(functional.max_pool1d(self.conv(h[:, None]), 2)).mean(2)

    torch.manual_seed(0)
    found = read(convert(Twice().double()), batch_of(6))
    assert list(found) == ["shared", "shared@1", "conv"]
    assert "gradient" in found["shared"].signals
    assert "gradient" not in found["shared@1"].signals
    assert found["conv"].signals["modulator"].array.shape == (N, 4, 2)
    assert found["conv"].signals["modulator"].dims == ("sample", "h_channel", "h_2")
    assert found["conv"].signals["error"].dims == ("sample", "channel", "length")


def test_frozen_layers_are_read_and_stay_frozen():
    torch.manual_seed(0)
    model = convert(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)).double())
    whole = read(model, batch_of(6))
    model[0].requires_grad_(False)
    frozen = read(model, batch_of(6))
    np.testing.assert_array_equal(values(whole["0"], "error"), values(frozen["0"], "error"))
    assert not model[0].weight.requires_grad
    assert model[0].weight.grad is None


def with_a_penalty(model, batch):
    x = batch[0].detach().clone().requires_grad_()
    out = model(x)
    (slope,) = torch.autograd.grad(out.logsumexp(1).sum(), x, create_graph=True)
    return functional.cross_entropy(out, batch[1]) + (slope.norm(dim=1) - 1).square().mean()


def test_the_true_gradient_of_a_loss_with_a_gradient_penalty():
    """The penalty's own gradient has the weights in it, once more."""
    batch = batch_of(6)

    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4)).double()

    plain = network()
    with_a_penalty(plain, batch).backward()
    probe = Probe(batch, with_a_penalty, signals=["gradient", "gradient_bp"])
    model = convert(network())
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    for layer in probe.read(model, layers):
        tiny(layer.signals["gradient_bp"].array, plain[int(layer.name)].weight.grad.numpy())
        assert model[int(layer.name)].weight.grad is None


class Experts(nn.Module):
    """Calls each expert, with no sample where none was sent to it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.experts, self.last = nn.ModuleList(nn.Linear(6, 6) for _ in range(3)), nn.Linear(6, 4)

    def forward(self, x):
        sent, out = torch.arange(len(x)) % 2, torch.zeros_like(x)
        for place, expert in enumerate(self.experts):
            chosen = (sent == place).nonzero()[:, 0]
            out = out.index_add(0, chosen, torch.relu(expert(x[chosen])))
        return self.last(out)


@pytest.mark.parametrize("reduction", ["raw", "factor"])
def test_an_expert_without_samples_has_no_null(reduction):
    found = read(convert(Experts().double()), batch_of(6), redraws=2, gate_draws=2, reduction=reduction)
    assert np.isfinite(values(found["experts.0"], "error_null_spectrum_raw")).all()
    assert np.isnan(values(found["experts.2"], "error_null_spectrum_raw")).all()


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.last(torch.relu(torch.func.vmap(self.first)(x)))


def test_a_layer_inside_a_transformation_is_named():
    model, batch = Mapped().double(), batch_of(6)
    with pytest.raises(CaptureError, match=r"layer 'first' is called inside a transformation of torch.func"):
        read(model, batch)
    layers = choose_layers(model, DEFAULT_ADAPTERS, ["last"])
    (last,) = Probe(batch, loss_of).read(model, layers)
    assert last.signals["error"].array.any()
