"""Each rule's layers against its equations, in numpy and float64."""

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.rules import RULES, Rule, convert
from tests.rules.in_numpy import conv, conv_backward
from tests.rules.straight import LAYERWISE

#: B of a pass, from the weight and what the layer holds.
FEEDBACKS: dict[str, Callable[[np.ndarray, dict[str, np.ndarray]], np.ndarray]] = {
    "fa": lambda W, held: held["feedback"],
    "kp": lambda W, held: held["feedback"],
    "usf": lambda W, held: np.sqrt(np.mean(W**2)) * np.sign(W),
    "frsf": lambda W, held: held["magnitude"] * np.sign(W),
    "brsf": lambda W, held: held["magnitude"] * np.sign(W),
}


def test_every_rule_with_feedback_has_its_equation_here() -> None:
    assert set(FEEDBACKS) == set(LAYERWISE)


CONVS = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (3, 4, 11)),
    "conv1d-circular": (nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (3, 4, 7)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (3, 4, 7, 6)),
    "conv2d-groups": (
        nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect", bias=False),
        (2, 4, 5, 6),
    ),
    "conv2d-depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="replicate"), (2, 4, 5, 6)),
}


def parts_of(layer: nn.Module) -> dict[str, np.ndarray]:
    """Return the parameters and buffers of a converted layer, as a pass just made has left them."""
    return {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}


@pytest.mark.parametrize("rule", FEEDBACKS)
@pytest.mark.parametrize("shape", [(7, 5), (2, 7, 5)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_backward_pass_is_the_equations(rule: str, shape: tuple[int, ...], transposed: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(5, 3)
    if transposed:
        plain = pytest.importorskip("transformers").pytorch_utils.Conv1D(3, 5)
        nn.init.normal_(plain.bias)
    layer = convert(plain.double(), rule)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    error = torch.randn(*shape[:-1], 3, dtype=torch.float64)
    out = layer(x)
    out.backward(error)
    held = parts_of(layer)
    h, delta = x.detach().numpy(), error.numpy()
    W, B = held["weight"], FEEDBACKS[rule](held["weight"], held)
    W, B = (W.T, B.T) if transposed else (W, B)
    rows, columns = delta.reshape(-1, 3), h.reshape(-1, 5)
    gradient = columns.T @ rows if transposed else rows.T @ columns
    np.testing.assert_allclose(out.detach().numpy(), h @ W.T + held["bias"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), delta @ B, rtol=0, atol=1e-14)
    np.testing.assert_allclose(layer.weight.grad.numpy(), gradient, rtol=0, atol=1e-14)
    np.testing.assert_allclose(layer.bias.grad.numpy(), rows.sum(0), rtol=0, atol=1e-14)
    assert not np.allclose(delta @ B, delta @ W)
    if rule == "kp":
        np.testing.assert_allclose(layer.feedback.grad.numpy(), gradient, rtol=0, atol=1e-14)


@pytest.mark.parametrize("rule", FEEDBACKS)
@pytest.mark.parametrize("case", CONVS)
def test_the_backward_pass_of_a_convolution_is_the_equations(rule: str, case: str) -> None:
    torch.manual_seed(0)
    plain, shape = CONVS[case]
    layer = convert(copy.deepcopy(plain).double(), rule)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    error = torch.randn(out.shape, dtype=torch.float64)
    out.backward(error)
    held, h, delta = parts_of(layer), x.detach().numpy(), error.numpy()
    how = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
    }
    how["mode"] = layer.padding_mode
    B = FEEDBACKS[rule](held["weight"], held)
    to_input, to_weight = conv_backward(h, delta, B, **how)
    expected = conv(h, held["weight"], held.get("bias"), **how)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), to_input, rtol=0, atol=1e-13)
    np.testing.assert_allclose(layer.weight.grad.numpy(), to_weight, rtol=0, atol=1e-13)
    if layer.bias is not None:
        axes = (0, *range(2, delta.ndim))
        np.testing.assert_allclose(layer.bias.grad.numpy(), delta.sum(axes), rtol=0, atol=1e-13)
    assert not np.allclose(to_input, conv_backward(h, delta, held["weight"], **how)[0])
    if rule == "kp":
        np.testing.assert_allclose(layer.feedback.grad.numpy(), to_weight, rtol=0, atol=1e-13)


def test_feedback_alignment_conserves_what_it_must() -> None:
    # definitions.md, closed form 1: |W_l[k]|^2 + b_l[k]^2 - 2 B_(l+1)[:,k] . W_(l+1)[:,k] less the sum of the
    # squared steps of W_l[k] and b_l[k] stays what it was.
    torch.manual_seed(0)
    widths = (6, 9, 8, 7, 3)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    gates = [nn.ReLU(), nn.ReLU(), nn.Identity()]
    model = nn.Sequential(*[m for pair in zip(layers, [*gates, nn.Identity()], strict=True) for m in pair])
    convert(model.double())
    x, y = torch.randn(30, 6, dtype=torch.float64), torch.arange(30) % 3
    optimizer = torch.optim.SGD(model.parameters(), 0.5)

    def quantity() -> list[np.ndarray]:
        return [
            (low.weight.square().sum(1) + low.bias.square() - 2 * (up.feedback * up.weight).sum(0))
            .detach()
            .numpy()
            for low, up in pairwise(layers)
        ]

    start, moved = quantity(), [0.0] * 3
    for _ in range(500):
        before = [(m.weight.detach().clone(), m.bias.detach().clone()) for m in layers[:-1]]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        for at, (w, b) in enumerate(before):
            step = (layers[at].weight - w).square().sum(1) + (layers[at].bias - b).square()
            moved[at] = moved[at] + step.detach().numpy()
    for first, last, steps in zip(start, quantity(), moved, strict=True):
        assert np.abs(steps).max() > 0.001
        np.testing.assert_allclose(last, first + steps, rtol=0, atol=1e-12)


def test_frozen_layers_pass_the_error_on_exactly_and_learn_nothing() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(7, 5, requires_grad=True)
    model(x).square().sum().backward()
    expected, x.grad = x.grad, None
    assert convert(model, "frozen", layers="0") is model
    assert type(model[0]) is nn.Linear
    assert model[0].weight.grad is None  # what an optimizer would still apply
    before = [p.detach().clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1).step()
    torch.testing.assert_close(x.grad, expected)
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


def test_a_rule_is_a_name_and_a_layer() -> None:
    assert [rule.name for rule in RULES] == ["bp", "fa", "dfa", "drtp", "usf", "frsf", "brsf", "kp", "frozen"]
    assert all(isinstance(rule, Rule) for rule in RULES)
