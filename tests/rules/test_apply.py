"""The short way through autograd gives torch's own numbers, and torch's own way serves without it."""

import copy
import inspect
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.rules import convert
from fadiag.rules.layers import autograd


def network(device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Conv1d(4, 3, 3), nn.Flatten(), nn.Linear(69, 3)
    )
    return convert(model.to(device), "kp")


def gradients(model: nn.Module, device: torch.device) -> list[Tensor]:
    x = torch.randn(8, 2, 7, 7, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
    cross_entropy(model(x), (torch.arange(8) % 3).to(device)).backward()
    return [x.grad, *(p.grad for p in model.parameters())]


def test_gradients_are_those_of_torchs_own_apply_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    assert autograd.HAS_FAST_APPLY
    model = network(device)
    other = copy.deepcopy(model)
    fast = gradients(model, device)
    monkeypatch.setattr(autograd, "HAS_FAST_APPLY", False)
    for one, two in zip(fast, gradients(other, device), strict=True):
        assert torch.equal(one, two) or (one.is_cuda and torch.allclose(one, two))


def test_a_training_step_inspects_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, kept = network(torch.device("cpu")), [], inspect.signature

    def counting(function: object, **options: object) -> inspect.Signature:
        calls.append(function)
        return kept(function, **options)

    monkeypatch.setattr(inspect, "signature", counting)
    gradients(model, torch.device("cpu"))
    assert not calls
    monkeypatch.setattr(autograd, "HAS_FAST_APPLY", False)
    gradients(model, torch.device("cpu"))
    assert len(calls) == 3  # one for each layer


def test_a_tensor_that_outlives_its_transform_is_taken_as_by_torch() -> None:
    layer, kept = convert(nn.Linear(3, 2)), []

    def leak(x: Tensor) -> Tensor:
        kept.append(x)
        return x.sum()

    torch.func.grad(leak)(x := torch.randn(4, 3))
    torch.testing.assert_close(layer(kept[0]), layer(x))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch._C, "_are_functorch_transforms_active"),
        (torch._C, "_FunctionBase"),
        (torch._functorch.utils, "unwrap_dead_wrappers"),
    ],
    ids=["functorch", "base", "unwrap"],
)
def test_without_a_private_name_of_torch_its_own_apply_serves(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location("autograd_without", autograd.__file__)
    assert spec is not None
    without = module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.delattr(module, name)
        spec.loader.exec_module(without)
    assert not without.HAS_FAST_APPLY

    class Tripled(without.FeedbackFunction):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: object, error: Tensor) -> Tensor:
            return 3 * error

    x = torch.randn(4, requires_grad=True)
    Tripled.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.full((4,), 3.0))
    assert torch.equal(torch.func.grad(lambda x: Tripled.apply(x).sum())(x.detach()), x.grad)
