"""Kolen-Pollack: B has W's gradient, so that their difference decays as the closed form says."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.errors import InputError
from fadiag.rules import convert

RATE, DECAY, MOMENTUM, STEPS = 0.05, 0.1, 0.9, 200


def network(device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Flatten(2),
        nn.Conv1d(4, 3, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(69, 3),
    )
    return convert(model.to(device), "kp")


def layers_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model if hasattr(module, "feedback")]


def batch_of(device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 2, 7, 7, generator=generator).to(device), (torch.arange(8) % 3).to(device)


def differences(model: nn.Module) -> list[Tensor]:
    return [(layer.weight - layer.feedback).detach().double() for layer in layers_of(model)]


def sgd_factor() -> float:
    return (1 - RATE * DECAY) ** STEPS


def momentum_factor() -> float:
    """The recurrence of the difference d and its momentum buffer v: v <- m v + decay d, d <- d - rate v."""
    difference, buffer = 1.0, 0.0
    for _ in range(STEPS):
        buffer = MOMENTUM * buffer + DECAY * difference
        difference -= RATE * buffer
    return difference


OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, float], Callable[[], float]]] = {
    "sgd": (torch.optim.SGD, {}, sgd_factor),
    "momentum": (torch.optim.SGD, {"momentum": MOMENTUM}, momentum_factor),
    "adamw": (torch.optim.AdamW, {}, sgd_factor),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_difference_of_weight_and_feedback_decays_by_the_closed_form(
    name: str, device: torch.device
) -> None:
    model, (x, y) = network(device), batch_of(device)
    build, options, factor = OPTIMIZERS[name]
    rate = RATE / 10 if name == "adamw" else RATE
    optimizer = build(model.parameters(), lr=rate, weight_decay=DECAY * RATE / rate, **options)
    before, first = differences(model), [layer.weight.detach().clone() for layer in layers_of(model)]
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    for start, end in zip(before, differences(model), strict=True):
        torch.testing.assert_close(end, factor() * start, rtol=0, atol=1e-5)
    # They moved by far more than the decay alone moves them.
    for layer, weight in zip(layers_of(model), first, strict=True):
        assert float((layer.weight.detach() - weight * sgd_factor()).norm()) > 0.1 * float(weight.norm())


def test_without_decay_the_difference_stays(device: torch.device) -> None:
    model, (x, y) = network(device), batch_of(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    before = differences(model)
    for _ in range(50):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    for start, end in zip(before, differences(model), strict=True):
        torch.testing.assert_close(end, start, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_feedback_has_the_weights_gradient_in_memory_of_its_own(compiled: bool, device: torch.device) -> None:
    torch.compiler.reset()
    model, (x, y) = network(device), batch_of(device)
    function = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
    for _ in range(2):  # the second pass adds to what the first left
        cross_entropy(function(x), y).backward()
    for layer in layers_of(model):
        assert layer.weight.grad.any()
        assert torch.equal(layer.feedback.grad, layer.weight.grad)
        assert layer.feedback.grad.data_ptr() != layer.weight.grad.data_ptr()


def test_under_a_given_feedback_nothing_is_learned_and_the_weight_has_its_gradient_once(
    device: torch.device,
) -> None:
    layer, x = convert(nn.Linear(5, 3), "kp").to(device), torch.randn(7, 5, device=device)
    with layer.using_feedback(layer.weight):
        layer(x).sum().backward()
    assert layer.feedback.grad is None
    torch.testing.assert_close(layer.weight.grad, torch.ones(3, 7, device=device) @ x)
    assert set(dict(layer.named_parameters())) == {"weight", "bias", "feedback"}


def test_layers_that_share_a_weight_share_one_parameter() -> None:
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = one.weight
    model = convert(nn.Sequential(one, nn.Tanh(), two), "kp")
    assert model[0].feedback is model[2].feedback
    assert len(list(model.parameters())) == 4  # W, B, two biases
    model(torch.randn(3, 4)).square().sum().backward()
    torch.testing.assert_close(model[0].feedback.grad, model[0].weight.grad)


def test_a_transposed_linear_layer_learns_its_feedback_in_its_own_shape(device: torch.device) -> None:
    layer = convert(pytest.importorskip("transformers").pytorch_utils.Conv1D(3, 5), "kp").to(device)
    x, error = torch.randn(7, 5, device=device, requires_grad=True), torch.randn(7, 3, device=device)
    layer(x).backward(error)
    torch.testing.assert_close(x.grad, error @ layer.feedback.detach().t())
    torch.testing.assert_close(layer.weight.grad, x.detach().t() @ error)
    assert torch.equal(layer.feedback.grad, layer.weight.grad)


def test_the_feedback_of_a_frozen_weight_is_frozen() -> None:
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    convert(layer, "kp")
    assert not layer.feedback.requires_grad
    layer.weight.requires_grad_(True)
    other = convert(nn.Linear(4, 3), "kp")
    other.weight.requires_grad_(False)
    other(torch.randn(2, 4)).sum().backward()
    assert other.feedback.grad is None


def test_a_weight_that_is_computed_is_refused_and_the_model_left_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    with pytest.raises(
        InputError, match=r"layer '1' computes its weight by WeightNorm, .*; remove WeightNorm, or leave"
    ):
        convert(model, "kp")
    assert type(model[0]) is nn.Linear
    convert(model, "kp", layers="0")
    assert type(model[0]).__name__ == "KolenPollackLinear"


def test_feedback_is_saved_as_a_parameter_and_moves_with_the_model() -> None:
    model = convert(nn.Sequential(nn.Linear(4, 3)), "kp")
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "0.feedback"]
    other = copy.deepcopy(model)
    assert other[0].feedback is not model[0].feedback
    other[0].feedback.detach().zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other[0].feedback, model[0].feedback)
    assert model.double()[0].feedback.dtype == torch.float64


def test_in_half_precision_the_feedback_has_the_weights_gradient_too(device: torch.device) -> None:
    model, (x, y) = network(device), batch_of(device)
    with torch.autocast(device.type, torch.bfloat16):
        loss = cross_entropy(model(x), y)
    loss.backward()
    for layer in layers_of(model):
        assert layer.feedback.grad.dtype == torch.float32
        assert torch.equal(layer.feedback.grad, layer.weight.grad)


def test_ddp_reduces_the_gradient_of_the_feedback(tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model, (x, y) = network(torch.device("cpu")), batch_of(torch.device("cpu"))
        plain = copy.deepcopy(model)
        cross_entropy(nn.parallel.DistributedDataParallel(model)(x), y).backward()
        cross_entropy(plain(x), y).backward()
        for layer, other in zip(layers_of(model), layers_of(plain), strict=True):
            assert torch.equal(layer.feedback.grad, other.feedback.grad)
            assert torch.equal(layer.weight.grad, other.weight.grad)
    finally:
        torch.distributed.destroy_process_group()
