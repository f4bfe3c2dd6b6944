"""Gradients under torch.compile, torch.func and both, against the oracle that has no autograd function."""

import copy
from collections.abc import Callable

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from fadiag.rules import DirectLayer, FeedbackLayer, convert
from tests.rules.straight import DIRECT, LAYERWISE, Straight, difference, direct_gradients, learning, plain

TRANSFORMS = ("eager", "compile", "grad", "compile-grad", "vmap-grad", "compile-vmap-grad", "grad-vmap")
N = 4


def network(rule: str, device: torch.device) -> nn.Sequential:
    """Every kind of layer, with and without bias, and with frozen weights in the middle."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Flatten(2),
        nn.Conv1d(4, 3, 3, stride=2),
        nn.Tanh(),
        nn.Conv1d(3, 3, 3, padding="same"),
        nn.Flatten(),
        nn.Linear(36, 6),
        nn.Tanh(),
        nn.Linear(6, 5, bias=False),
        nn.Tanh(),
        nn.Linear(5, 3),
    )
    model[6].weight.requires_grad_(False)
    model[8].requires_grad_(False)
    # In eval mode, where brSF draws nothing: its draws have no place in a comparison of passes.
    example = torch.zeros(2, 2, 7, 7, dtype=torch.float64, device=device)
    return convert(model.double().to(device), rule=rule, example=example).eval()


#: The rules whose layers have feedback, by name.
WITH_FEEDBACK = [*LAYERWISE, *DIRECT]


def expected_of(model: nn.Sequential, x: Tensor, y: Tensor, *, to_input: bool = False) -> dict[str, Tensor]:
    """Return the oracle's gradients; a learned B has its weight's."""
    if any(isinstance(layer, DirectLayer) for layer in model):
        found = direct_gradients(model, x, y)
        return {name: gradient for name, gradient in found.items() if to_input or name != "input"}
    found = by_autograd(oracle_of(model), x, y, to_input=to_input)
    return found | {
        name: found[name.replace("feedback", "weight")] for name in trained(model) if "feedback" in name
    }


def oracle_of(model: nn.Sequential) -> nn.Sequential:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layers = []
    for layer in model:
        if isinstance(layer, FeedbackLayer):
            kind = next(kind for kind in kinds if isinstance(layer, kind))
            layers.append(Straight(plain(layer, kind), layer.feedback))
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {
        name.replace(".layer.", "."): p.detach() for name, p in model.named_parameters() if p.requires_grad
    }


def batch_of(device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 2, 7, 7, generator=generator, dtype=torch.float64)
    return x.to(device), (torch.arange(N) % 3).to(device)


def by_autograd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    to_input: bool = False,
    function: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the gradients of a model's parameters; ``function``: the model, compiled, say."""
    x = x.clone().requires_grad_(to_input)
    for parameter in model.parameters():
        parameter.grad = None
    with learning(model, y):
        cross_entropy((function or model)(x), y).backward()
    found = {name.replace(".layer.", "."): p.grad for name, p in model.named_parameters() if p.requires_grad}
    return found | ({"input": x.grad} if to_input else {})


def by_transform(
    transform: str, model: nn.Module, x: Tensor, y: Tensor, *, to_input: bool
) -> dict[str, Tensor]:
    compiled = transform.startswith("compile")
    kind = transform.removeprefix("compile").removeprefix("-")
    if kind in {"", "eager"}:
        function = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        return by_autograd(model, x, y, to_input=to_input, function=function)
    weights = trained(model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor, scale: float | None = None) -> Tensor:
        with learning(model, y, scale):
            return cross_entropy(functional_call(model, {**state, **weights}, (x,)), y)

    def per_sample(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(weights, x[None], y[None])

    def mean_of_samples(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        # DRTP's credit is not the loss's, so the mean scales the errors of the output layer only.
        each = vmap(lambda x, y: loss(weights, x[None], y[None], -1 / N))(x, y)
        return each.mean()

    asked = (0, 1) if to_input else (0,)
    function = {
        "grad": grad(loss, asked),
        "vmap-grad": vmap(grad(per_sample, asked), (None, 0, 0)),
        "grad-vmap": grad(mean_of_samples, asked),
    }[kind]
    if compiled:
        function = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, *rest = function(weights, x, y)
    if kind == "vmap-grad":
        # Per-sample gradients: their mean is the gradient of the mean loss.
        assert all(gradient.shape == (N, *weights[name].shape) for name, gradient in found.items())
        found, rest = {name: gradient.mean(0) for name, gradient in found.items()}, [x / N for x in rest]
    return found | ({"input": rest[0]} if to_input else {})


CASES = [
    *((rule, transform, False) for rule in WITH_FEEDBACK for transform in TRANSFORMS),
    *((rule, transform, True) for rule in ("fa", "dfa") for transform in TRANSFORMS),
]


def _slow_beyond_one(rule, transform, to_input):
    """`make test` compiles FA in every way, and each rule in one way."""
    fast = not transform.startswith("compile-") or (rule == "fa" and not to_input)
    return pytest.param(rule, transform, to_input, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize(("rule", "transform", "to_input"), [_slow_beyond_one(*case) for case in CASES])
def test_gradients_are_the_oracles_under_every_transform(
    rule: str, transform: str, to_input: bool, device: torch.device
) -> None:
    torch.compiler.reset()
    model, (x, y) = network(rule, device), batch_of(device)
    expected = expected_of(model, x, y, to_input=to_input)
    assert min(float(gradient.abs().max()) for gradient in expected.values()) > 1e-6
    assert difference(by_transform(transform, model, x, y, to_input=to_input), expected) < 1e-12


@pytest.mark.parametrize("transform", ["compile", "vmap-grad", "compile-vmap-grad"])
def test_transposed_linear_layers_have_the_oracles_gradients(transform: str, device: torch.device) -> None:
    torch.compiler.reset()
    conv1d = pytest.importorskip("transformers").pytorch_utils.Conv1D
    torch.manual_seed(0)
    true = nn.Sequential(conv1d(5, 6), nn.Tanh(), conv1d(3, 5)).double().to(device)
    model = convert(copy.deepcopy(true))
    oracle = nn.Sequential(
        Straight(true[0], model[0].feedback), true[1], Straight(true[2], model[2].feedback)
    )
    x, y = batch_of(device)
    x = x[:, 0, 0, :6]
    expected = by_autograd(oracle, x, y, to_input=True)
    assert difference(by_transform(transform, model, x, y, to_input=True), expected) < 1e-12


def test_per_sample_gradients_are_those_of_a_loop(device: torch.device) -> None:
    model, (x, y) = network("fa", device), batch_of(device)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, {**state, **weights}, (x[None],)), y[None])

    found = vmap(grad(loss), (None, 0, 0))(trained(model), x, y)
    for i in range(N):
        expected = by_autograd(oracle_of(model), x[i : i + 1], y[i : i + 1])
        assert difference({name: gradient[i] for name, gradient in found.items()}, expected) < 1e-12


def test_a_rule_that_draws_is_compiled_with_the_same_draws(device: torch.device) -> None:
    torch.compiler.reset()
    found, (x, y) = [], batch_of(device)
    for transform in ("eager", "compile"):
        model = network("brsf", device).train()
        torch.manual_seed(3)
        found.append(by_transform(transform, model, x, y, to_input=False))
    assert difference(*found) < 1e-12


@pytest.mark.parametrize("rule", LAYERWISE)
def test_a_compiled_model_takes_the_feedback_that_is_given(rule: str, device: torch.device) -> None:
    torch.compiler.reset()
    layer = convert(nn.Linear(5, 3).to(device), rule).eval()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, error = torch.randn(7, 5, device=device, requires_grad=True), torch.randn(7, 3, device=device)
    given = torch.randn(3, 5, device=device)
    own = layer.feedback.detach().clone()
    (before,) = torch.autograd.grad(compiled(x), x, error)
    with layer.using_feedback(given):
        (inside,) = torch.autograd.grad(compiled(x), x, error)
    (after,) = torch.autograd.grad(compiled(x), x, error)
    torch.testing.assert_close(before, error @ own)
    torch.testing.assert_close(inside, error @ given)
    torch.testing.assert_close(after, error @ own)


def test_compiled_autocast_gives_the_gradients_of_eager_autocast(device: torch.device) -> None:
    torch.compiler.reset()
    model, (x, y) = network("fa", device).float(), batch_of(device)
    compiled, found = torch.compile(model, fullgraph=True, backend="aot_eager"), []
    for function in (model, compiled):
        with torch.autocast(device.type, torch.bfloat16):
            found.append(by_autograd(model, x.float(), y, function=function))
    assert difference(*found) < (1e-7 if device.type == "cpu" else 1e-2)


PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


class Products(TorchDispatchMode):
    """Notes every matrix product that runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in PRODUCTS:
            self.seen.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("compiled", [False, True])
def test_no_input_gradient_is_computed_that_nobody_needs(compiled: bool, device: torch.device) -> None:
    torch.compiler.reset()
    model = convert(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))).to(device)
    x, y = torch.randn(4, 6, device=device), torch.arange(4, device=device) % 3
    if compiled:
        seen: list[object] = []

        def look(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
            seen.extend(node.target for node in graph.graph.nodes if node.target in PRODUCTS)
            return make_boxed_func(graph.forward)

        backend = aot_autograd(fw_compiler=look, bw_compiler=look)
        cross_entropy(torch.compile(model, fullgraph=True, backend=backend)(x), y).backward()
    else:
        with Products() as products:
            cross_entropy(model(x), y).backward()
        seen = products.seen
    # Two of the forward pass, two weight gradients, and one error that goes down: none to the first input.
    assert len(seen) == 5
