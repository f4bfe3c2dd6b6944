"""Each rule's linear layer against its equations, in numpy and float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fadiag.rules import RULES, Rule, convert
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


@pytest.mark.parametrize("rule", FEEDBACKS)
@pytest.mark.parametrize("shape", [(7, 5), (2, 7, 5)], ids=str)
def test_the_backward_pass_is_the_equations(rule: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = convert(nn.Linear(5, 3).double(), rule)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    error = torch.randn(*shape[:-1], 3, dtype=torch.float64)
    out = layer(x)
    out.backward(error)
    W, b, h, delta = (t.detach().numpy() for t in (layer.weight, layer.bias, x, error))
    held = {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}
    B = FEEDBACKS[rule](W, held)
    rows, columns = delta.reshape(-1, 3), h.reshape(-1, 5)
    gradient = rows.T @ columns
    np.testing.assert_allclose(out.detach().numpy(), h @ W.T + b, rtol=0, atol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), delta @ B, rtol=0, atol=1e-14)
    np.testing.assert_allclose(layer.weight.grad.numpy(), gradient, rtol=0, atol=1e-14)
    np.testing.assert_allclose(layer.bias.grad.numpy(), rows.sum(0), rtol=0, atol=1e-14)
    assert not np.allclose(delta @ B, delta @ W)
    if rule == "kp":
        np.testing.assert_allclose(layer.feedback.grad.numpy(), gradient, rtol=0, atol=1e-14)


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
