"""The layers against an independent oracle, torch's own checks, and backpropagation to the last bit."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from fadiag.rules import FeedbackLayer, FeedbackTransposedLinear, convert, feedback_linear
from tests.rules.straight import LAYERWISE, Straight

# torch says so of its own layer; ours pads before the kernel.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")

LINEAR_SHAPES = [(5,), (7, 5), (2, 7, 5), (0, 5)]
CONVS = {
    "plain": (nn.Conv2d(4, 6, 3), (3, 4, 8, 8)),
    "stride-padding": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 9, 8)),
    "groups-dilation": (nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2), (3, 4, 8, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, bias=False), (3, 4, 8, 8)),
    "same-even-kernel": (nn.Conv2d(4, 6, (2, 4), padding="same"), (3, 4, 8, 8)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (3, 4, 8, 8)),
    "unbatched": (nn.Conv2d(4, 6, 3), (4, 8, 8)),
    "one-d": (nn.Conv1d(4, 6, 5, stride=2, padding=1), (3, 4, 11)),
    "one-d-unbatched": (nn.Conv1d(4, 6, 5), (4, 11)),
}


def double(layer: nn.Module, device: torch.device) -> nn.Module:
    return copy.deepcopy(layer).double().to(device)


def fed_by_weight(layer: nn.Module, device: torch.device) -> FeedbackLayer:
    converted = convert(double(layer, device))
    assert isinstance(converted, FeedbackLayer)
    converted.feedback.copy_(converted.weight.detach())
    return converted


def gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    out = layer(x)
    (out * torch.randn(out.shape, dtype=out.dtype).to(out.device)).sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in layer.parameters())]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    """Compare to the last bit; on a GPU, whose kernels may add in another order each time, nearly so."""
    for one, other in zip(got, expected, strict=True):
        if one.is_cuda:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        else:
            assert torch.equal(one, other)


@pytest.mark.parametrize("shape", LINEAR_SHAPES, ids=str)
def test_linear_with_the_weight_as_feedback_is_backpropagation_to_the_last_bit(
    shape: tuple[int, ...], device: torch.device
) -> None:
    layer, x = nn.Linear(5, 3), torch.randn(shape, dtype=torch.float64).to(device)
    assert_same(gradients(fed_by_weight(layer, device), x), gradients(double(layer, device), x))


@pytest.mark.parametrize("case", CONVS)
def test_conv_with_the_weight_as_feedback_is_backpropagation_to_the_last_bit(
    case: str, device: torch.device
) -> None:
    layer, shape = CONVS[case]
    x = torch.randn(shape, dtype=torch.float64).to(device)
    assert_same(gradients(fed_by_weight(layer, device), x), gradients(double(layer, device), x))


@pytest.mark.parametrize("case", ["linear", *CONVS])
def test_gradients_are_the_oracles(case: str, device: torch.device) -> None:
    layer, shape = (nn.Linear(5, 3), (2, 7, 5)) if case == "linear" else CONVS[case]
    true, ours = double(layer, device), convert(double(layer, device), seed=3)
    x = torch.randn(shape, dtype=torch.float64).to(device)
    got = gradients(ours, x)
    for one, other in zip(got, gradients(Straight(true, ours.feedback), x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(got[1], gradients(double(layer, device), x)[1])  # and not backpropagation's


@pytest.mark.parametrize("shape", [(7, 5), (2, 7, 5), (2, 3, 7, 5)], ids=str)
def test_a_transposed_linear_layer_has_the_oracles_gradients(
    shape: tuple[int, ...], device: torch.device
) -> None:
    layer = pytest.importorskip("transformers").pytorch_utils.Conv1D(3, 5)
    true, ours = double(layer, device), convert(double(layer, device), seed=3)
    assert isinstance(ours, FeedbackTransposedLinear)
    assert ours.feedback.shape == ours.weight.shape == (5, 3)
    x = torch.randn(shape, dtype=torch.float64).to(device)
    got, expected = gradients(ours, x), gradients(Straight(true, ours.feedback), x)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    exact = gradients(double(layer, device), x)
    assert not torch.allclose(got[1], exact[1])
    for one, other in zip(gradients(fed_by_weight(layer, device), x), exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layer", [nn.Linear(5, 3), nn.Conv1d(4, 2, 2), nn.Conv2d(2, 4, 2, groups=2)], ids=str
)
def test_gradcheck_passes_only_with_the_weight_as_feedback(layer: nn.Module, device: torch.device) -> None:
    shape = {nn.Linear: (4, 5), nn.Conv1d: (2, 4, 5), nn.Conv2d: (2, 2, 4, 4)}[type(layer)]
    x = torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
    # cuDNN's kernels may add in another order each time.
    assert torch.autograd.gradcheck(fed_by_weight(layer, device), (x,), nondet_tol=1e-12)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(convert(double(layer, device)), (x,), nondet_tol=1e-12)


@pytest.mark.parametrize("rule", LAYERWISE)
def test_gradcheck_passes_under_every_rule_with_the_weight_as_feedback(
    rule: str, device: torch.device
) -> None:
    layer = convert(nn.Linear(5, 3).double().to(device), rule).eval()  # brSF draws in training mode
    x = torch.randn(4, 5, dtype=torch.float64, device=device, requires_grad=True)
    with layer.using_feedback(layer.weight.detach()):
        assert torch.autograd.gradcheck(layer, (x,))
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("case", ["linear", *CONVS])
def test_an_in_place_gate_may_follow(case: str, device: torch.device) -> None:
    layer, shape = (nn.Linear(5, 3), (2, 7, 5)) if case == "linear" else CONVS[case]
    x, found = torch.randn(shape, dtype=torch.float64).to(device), []
    for inplace in (False, True):
        model = nn.Sequential(convert(double(layer, device)), nn.ReLU(inplace))
        found.append(gradients(model, x))
    assert_same(*found)


def test_functional_call_with_the_weight_as_feedback_is_the_true_backward(device: torch.device) -> None:
    model, x = convert(nn.Linear(5, 3)).to(device), torch.randn(7, 5, device=device, requires_grad=True)
    out = torch.func.functional_call(model, {"feedback": model.weight.detach()}, (x,))
    (got,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(got, torch.ones(7, 3, device=device) @ model.weight.detach())


def test_using_feedback_holds_inside_only(device: torch.device) -> None:
    layer, x = convert(nn.Linear(5, 3)).to(device), torch.randn(7, 5, device=device, requires_grad=True)
    before = layer.feedback
    with layer.using_feedback(layer.weight.detach()):
        out = layer(x)
    assert layer.feedback is before
    (got,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(got, torch.ones(7, 3, device=device) @ layer.weight.detach())
    with pytest.raises(RuntimeError, match="inside"), layer.using_feedback(torch.zeros(3, 5)):
        raise RuntimeError("inside")
    assert layer.feedback is before


@pytest.mark.parametrize("case", ["linear", "plain", "one-d"])
def test_autocast_gives_float32_gradients_near_the_full_precision_ones(
    case: str, device: torch.device
) -> None:
    layer, shape = (nn.Linear(5, 3), (7, 5)) if case == "linear" else CONVS[case]
    ours = convert(copy.deepcopy(layer)).to(device)
    x = torch.randn(shape).to(device)

    def run(enabled: bool) -> list[Tensor]:
        ours.zero_grad()
        inputs = x.clone().requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            out = ours(inputs)
        assert out.dtype == (torch.bfloat16 if enabled else torch.float32)
        out.float().square().sum().backward()
        return [inputs.grad, *(p.grad.clone() for p in ours.parameters())]

    for got, expected in zip(run(True), run(False), strict=True):
        assert got.dtype == torch.float32
        assert (got - expected).norm() < 0.03 * expected.norm()


def test_autocast_matches_torchs_own_backward_bit_for_bit(device: torch.device) -> None:
    layer = nn.Linear(16, 8).to(device)
    ours, x = convert(copy.deepcopy(layer)), torch.randn(7, 16).to(device)
    ours.feedback.copy_(ours.weight.detach())
    results = []
    for module in (layer, ours):
        inputs = x.clone().requires_grad_()
        with torch.autocast(device.type, torch.bfloat16):
            out = module(inputs)
        out.float().square().sum().backward()
        results.append([inputs.grad, module.weight.grad, module.bias.grad])
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


def test_frozen_weight_still_passes_the_error_on(device: torch.device) -> None:
    layer = convert(nn.Linear(5, 3)).to(device)
    layer.requires_grad_(False)
    x = torch.randn(7, 5, device=device, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(7, 3, device=device) @ layer.feedback)
    assert layer.weight.grad is None


def test_second_order_goes_through_the_feedback_too(device: torch.device) -> None:
    x = torch.randn(4, 5, dtype=torch.float64, device=device, requires_grad=True)
    W, B = (torch.randn(3, 5, dtype=torch.float64, device=device) for _ in range(2))
    (first,) = torch.autograd.grad(feedback_linear(x, W, None, B).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    # first = 3 a^2 B with a = x W^T; its own derivative meets B again, where the rule puts it.
    a = x.detach() @ W.t()
    expected = (6 * a * B.sum(1)) @ B
    torch.testing.assert_close(second, expected)


def test_repr_names_the_rule() -> None:
    assert (
        repr(convert(nn.Linear(4, 2)))
        == "FeedbackLinear(in_features=4, out_features=2, bias=True, rule='fa')"
    )


def test_oracle_itself_differs_from_backpropagation_only_in_the_inputs_gradient(device: torch.device) -> None:
    # A guard on the oracle: with the weight as feedback it is backpropagation.
    layer, x = double(nn.Linear(5, 3), device), torch.randn(7, 5, dtype=torch.float64).to(device)
    through = Straight(copy.deepcopy(layer), layer.weight.detach())
    for got, expected in zip(gradients(through, x), gradients(layer, x), strict=True):
        torch.testing.assert_close(got, expected)
