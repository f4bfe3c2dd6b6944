"""Weights that are computed anew at each pass: they are recorded as computed, and nothing of it is disturbed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from fadiag import analyze, convert
from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import choose_layers
from fadiag.errors import CaptureError, CaptureWarning, ConvertWarning, InputError
from fadiag.store import open_run
from tests.capture.test_run_unchanged import adam, check_same_bits, run, sgd
from tests.capture.toy import labelled, loss_of

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
X, Y = labelled(8, torch.float64)
LAYERS = (0, 2, 4)


class LowRank(nn.Module):
    """A parametrization with matrices of its own, as LoRA has them."""

    def __init__(self, weight):
        super().__init__()
        self.left = nn.Parameter(torch.randn(weight.shape[0], 2, dtype=weight.dtype) / 8)
        self.right = nn.Parameter(torch.randn(2, weight[0].numel(), dtype=weight.dtype) / 8)

    def forward(self, weight):
        return weight + (self.left @ self.right).reshape(weight.shape)


class Noisy(nn.Module):
    def forward(self, weight):
        return weight * (torch.rand_like(weight) > 0.1) if self.training else weight


def low_rank(layer):
    return parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.3)


WAYS = {
    "weight_norm": (parametrizations.weight_norm, "WeightNorm"),
    "spectral_norm": (parametrizations.spectral_norm, "SpectralNorm"),
    "orthogonal": (parametrizations.orthogonal, "Orthogonal"),
    "low_rank": (low_rank, "LowRank"),
    "both": (lambda m: parametrizations.spectral_norm(low_rank(m)), "LowRank and SpectralNorm"),
    "pruned": (pruned, "L1Unstructured"),
    "old_weight_norm": (nn.utils.weight_norm, "WeightNorm"),
    "old_spectral_norm": (nn.utils.spectral_norm, "SpectralNorm"),
}


def model_of(way, rule="fa", *, convert_last=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    if rule and not convert_last:
        convert(model, rule=rule)
    for i in (0, 2):
        WAYS[way][0](model[i])
    if rule and convert_last:
        convert(model, rule=rule)
    return model


def weights_of_pass(model):
    """The weights of a forward pass: what each layer makes of the unit vectors."""
    layers = [model[i] for i in LAYERS]
    return [(x(torch.eye(x.in_features).double()) - x.bias).detach().numpy().T for x in layers]


def record(model, path, *, steps=3, mode="train", live=None, state=None, **options):
    """Record a training, and return the run and the weights of each of its passes."""
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    probes, used = {"probe": Probe((X, Y), loss_of, mode=mode, **options)}, []
    with Recorder(model, path, optimizer=optimizer, probes=probes, every=1, live=live, state=state) as recorder:
        for _ in range(steps):
            optimizer.zero_grad()
            used.append(weights_of_pass(copied(model)))
            loss_of(model, (X, Y)).backward()
            optimizer.step()
            recorder.step()
    return open_run(path), used


def oracle(weights, biases, feedbacks):
    """Errors and gradients of the network by autograd on explicit weights; feedbacks in the weights' place."""
    weights = [torch.as_tensor(w).requires_grad_() for w in weights]
    feedbacks = [w if b is None else torch.as_tensor(b) for w, b in zip(weights, feedbacks, strict=True)]
    h, places = X, []
    for i, (weight, bias, gate) in enumerate(zip(weights, biases, (torch.relu, torch.tanh, lambda a: a))):
        below = h.detach()
        # The value of h W^T, the derivative by W of h W^T, and by h of h B^T.
        a = below @ weight.T + h @ feedbacks[i].detach().T - below @ feedbacks[i].detach().T + bias
        places.append(a)
        h = gate(a)
    return torch.autograd.grad(functional.cross_entropy(h, Y), [*places, *weights])


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("rule", ["fa", "usf", ""])
@pytest.mark.parametrize("way", WAYS)
def test_signals_are_those_of_the_computed_weight(way, rule, mode, tmp_path):
    model = model_of(way, rule)
    weights = weights_of_pass(model_of(way, rule).train(mode == "train"))
    biases = [model[i].bias.detach() for i in LAYERS]
    feedbacks = [None] * 3
    if rule == "fa":
        feedbacks = [model[i].feedback.detach().clone() for i in LAYERS]
    elif rule == "usf":
        feedbacks = [np.sqrt((w**2).mean()) * np.sign(w) for w in weights]
    with Recorder(model, tmp_path / "run.zarr", probes={"probe": Probe((X, Y), loss_of, mode=mode)}):
        pass
    run = open_run(tmp_path / "run.zarr")
    for suffix, matrices in (("", feedbacks), ("_bp", [None] * 3)):
        expected = oracle(weights, biases, matrices)
        for i, error, gradient in zip(LAYERS, expected[:3], expected[3:], strict=True):
            layer = run[f"probe/{i}"]
            np.testing.assert_allclose(layer[f"error{suffix}"].values[0], error, rtol=0, atol=1e-12)
            np.testing.assert_allclose(layer[f"gradient{suffix}"].values[0], gradient, rtol=0, atol=1e-12)
            assert layer.attrs["error_bp_check"] == "passed"
    for i, weight in zip((0, 2), weights, strict=False):
        assert run[f"probe/{i}"].attrs["parametrization"] == WAYS[way][1]
        assert run[f"state/{i}"].attrs["type"] == type(model_of(way, rule)[4]).__name__
        if mode == "train":  # the mode of the model itself
            for array in ("state/{}/weight", "static/{}/weight_init"):
                np.testing.assert_allclose(run[array.format(i)].values.reshape(weight.shape), weight, atol=1e-12)
    assert "parametrization" not in run["probe/4"].attrs
