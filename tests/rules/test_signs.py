"""The sign rules: closed-form cosines with the weight, what follows the weight and what stays."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from fadiag.rules import convert
from tests.rules.straight import Straight

#: definitions: the cosine of feedback and weight at initialization.
COSINES = {
    ("usf", "gaussian"): math.sqrt(2 / math.pi),
    ("usf", "uniform"): math.sqrt(3) / 2,
    ("frsf", "gaussian"): 2 / math.pi,
    ("frsf", "uniform"): 3 / 4,
    ("brsf", "gaussian"): 2 / math.pi,
}


def cosine(x: Tensor, y: Tensor) -> float:
    x, y = x.double().flatten(), y.double().flatten()
    return float(x @ y / (x.norm() * y.norm()))


def layer(device: torch.device, rule: str, law: str = "gaussian") -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(300, 400)
    (nn.init.normal_ if law == "gaussian" else nn.init.uniform_)(
        linear.weight, *((0, 0.1) if law == "gaussian" else (-0.1, 0.1))
    )
    return convert(linear.to(device), rule=rule, feedback=law)


def used(linear: nn.Linear) -> Tensor:
    """The matrix that the backward pass really used: the gradient to the input for one error of each unit."""
    device = linear.weight.device
    x = torch.zeros(linear.out_features, linear.in_features, device=device, requires_grad=True)
    linear(x).backward(torch.eye(linear.out_features, device=device))
    return x.grad


def random_state(device: torch.device) -> Tensor:
    """The state of torch's own generator that draws on a device."""
    return torch.get_rng_state() if device.type == "cpu" else torch.cuda.get_rng_state(device)


@pytest.mark.parametrize(("rule", "law"), COSINES)
def test_cosine_with_the_weight_is_the_closed_form(rule: str, law: str, device: torch.device) -> None:
    linear = layer(device, rule, law)
    # 120,000 entries: the standard deviation of the cosine is about 0.002.
    assert cosine(used(linear), linear.weight.detach()) == pytest.approx(COSINES[rule, law], abs=0.01)


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf"])
def test_signs_follow_the_weight_and_the_scale_is_its_own(rule: str, device: torch.device) -> None:
    linear = layer(device, rule)
    rms = float(linear.weight.detach().square().mean().sqrt())
    assert float(used(linear).square().mean().sqrt()) == pytest.approx(rms, rel=0.02)
    with torch.no_grad():
        linear.weight.neg_()
    assert torch.equal(used(linear).sign(), linear.weight.detach().sign())
    assert torch.equal(used(linear).sign(), linear.feedback.sign())


def test_usf_scales_with_the_weight_and_frsf_does_not(device: torch.device) -> None:
    for rule, factor in (("usf", 3.0), ("frsf", 1.0)):
        linear = layer(device, rule)
        before = used(linear)
        with torch.no_grad():
            linear.weight.mul_(3)
        torch.testing.assert_close(used(linear), factor * before)


def test_brsf_draws_at_each_training_pass_only_and_from_torchs_generator(device: torch.device) -> None:
    linear = layer(device, "brsf")
    first, second = used(linear), used(linear)
    assert not torch.equal(first, second)
    assert torch.equal(second, linear.feedback)
    linear.eval()
    assert torch.equal(used(linear), second)
    linear.train()
    torch.manual_seed(3)
    third = used(linear)
    torch.manual_seed(3)
    assert torch.equal(used(linear), third)


def test_frsf_keeps_its_magnitudes(device: torch.device) -> None:
    linear = layer(device, "frsf")
    assert torch.equal(used(linear), used(linear))
    assert torch.equal(used(linear).abs(), linear.magnitude)
    assert set(linear.state_dict()) == {"weight", "bias", "magnitude"}


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf"])
def test_using_feedback_takes_the_matrix_and_gives_it_back(rule: str, device: torch.device) -> None:
    linear = layer(device, rule)
    state = random_state(device)
    with linear.using_feedback(linear.weight.detach()):
        assert torch.equal(used(linear), linear.weight.detach())
    assert torch.equal(random_state(device), state)
    assert not torch.equal(linear.feedback, linear.weight)


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf"])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_learn_by_them_too(rule: str, kind: type[nn.Module], device: torch.device) -> None:
    conv = kind(4, 6, 3, groups=2, dtype=torch.float64, device=device)
    true = copy.deepcopy(conv)
    convert(conv, rule=rule)
    x = torch.randn(2, 4, *[7] * (1 if kind is nn.Conv1d else 2), dtype=torch.float64)
    x = x.to(device).requires_grad_()
    out = conv(x)
    error = torch.randn(out.shape, dtype=torch.float64).to(device)
    (got,) = torch.autograd.grad(out, x, error)
    (expected,) = torch.autograd.grad(Straight(true, conv.feedback)(x), x, error)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("rule", ["usf", "frsf", "brsf"])
def test_transposed_linear_layers_learn_by_them_too(rule: str, device: torch.device) -> None:
    linear = pytest.importorskip("transformers").pytorch_utils.Conv1D(30, 40).double().to(device)
    true = copy.deepcopy(linear)
    convert(linear, rule=rule)
    x = torch.randn(5, 40, dtype=torch.float64).to(device).requires_grad_()
    out = linear(x)
    error = torch.randn(out.shape, dtype=torch.float64).to(device)
    (got,) = torch.autograd.grad(out, x, error)
    (expected,) = torch.autograd.grad(Straight(true, linear.feedback)(x), x, error)
    torch.testing.assert_close(got, expected)
    assert torch.equal(linear.feedback.sign(), linear.weight.detach().sign())


@pytest.mark.parametrize("rule", ["usf", "frsf"])
def test_the_feedback_cannot_be_set_by_mistake(rule: str, device: torch.device) -> None:
    with pytest.raises(AttributeError):
        layer(device, rule).feedback = torch.zeros(400, 300)
