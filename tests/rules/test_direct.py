"""DFA and DRTP: their equations in numpy, what a residual block means, checkpoints, copies, and bad input."""

import copy
import itertools
import re
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.checkpoint import checkpoint

from fadiag.errors import InputError
from fadiag.rules import DirectLayer, convert, targets
from fadiag.rules.example import uses_of
from tests.rules.straight import DIRECT, direct_gradients, learning

N = 6
X = torch.randn(N, 2, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % 3

LAYERS: dict[str, Callable[[], nn.Sequential]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(98, 5), nn.Tanh(), nn.Linear(5, 3)),
    "positions": lambda: nn.Sequential(
        nn.Flatten(2), nn.Linear(49, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.Flatten(), nn.Linear(8, 3)
    ),
    "conv2d": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, dilation=2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding="valid", bias=False),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "conv1d": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 3, 3, padding="same"), nn.GELU(), nn.Flatten(), nn.Linear(147, 3)
    ),
}


def network(case: str, rule: str) -> nn.Sequential:
    torch.manual_seed(0)
    return convert(LAYERS[case]().double(), rule, seed=3, example=X)


def gradients(model: nn.Module, run: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
    model.zero_grad()
    x = X.clone().requires_grad_()
    with learning(model, Y):
        cross_entropy((run or model)(x), Y).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()} | {"input": x.grad}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-15) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=atol)


@pytest.mark.parametrize("rule", DIRECT)
@pytest.mark.parametrize("case", LAYERS)
def test_gradients_are_those_of_the_surrogate_loss(case: str, rule: str) -> None:
    model = network(case, rule)
    assert_same(gradients(model), direct_gradients(model, X, Y))


@pytest.mark.parametrize("rule", DIRECT)
def test_an_mlp_follows_the_equation_in_numpy(rule: str) -> None:
    model = network("linear", rule)
    found = gradients(model)
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    f1, f2 = (model[at].feedback.numpy() for at in (1, 3))
    x, one_hot = X.flatten(1).numpy(), np.eye(3)[Y.numpy()]
    h = np.tanh(x @ w1.T + b1)
    logits = np.exp(h @ w2.T + b2)
    top = (logits / logits.sum(1, keepdims=True) - one_hot) / N
    sent = top if rule == "dfa" else -one_hot / N
    hidden = (sent @ f2) * (1 - h**2)
    expected = {
        "1.weight": hidden.T @ x,
        "1.bias": hidden.sum(0),
        "3.weight": top.T @ h,
        "3.bias": top.sum(0),
        "input": (sent @ f1.reshape(3, -1)).reshape(X.shape),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=0, atol=1e-15)


@pytest.mark.parametrize("rule", DIRECT)
def test_transposed_linear_layers_learn_by_it_too(rule: str) -> None:
    conv1d = pytest.importorskip("transformers").pytorch_utils.Conv1D
    torch.manual_seed(0)
    one = nn.Sequential(nn.Flatten(2), conv1d(5, 49), nn.Tanh(), nn.Flatten(), conv1d(3, 10)).double()
    two = nn.Sequential(nn.Flatten(2), nn.Linear(49, 5), nn.Tanh(), nn.Flatten(), nn.Linear(10, 3)).double()
    for at in (1, 4):
        two[at].load_state_dict({"weight": one[at].weight.t(), "bias": one[at].bias})
    convert(one, rule, example=X)
    convert(two, rule, example=X, feedback={str(at): one[at].feedback for at in (1, 4)})
    found = gradients(one)
    turned = {name: g.t() if name.endswith("weight") else g for name, g in found.items()}
    assert_same(turned, gradients(two))


@pytest.mark.parametrize("rule", DIRECT)
def test_a_deep_linear_net_from_zero_stays_a_product_of_feedbacks(rule: str) -> None:
    # definitions.md, closed form 2: W_l = F_l^T A_l F_(l-1), F_l of what layer l's output is credited with.
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(a, b, bias=False) for a, b in ((6, 9), (9, 8), (8, 7), (7, 3))])
    model.double()
    x = torch.randn(40, 6, dtype=torch.float64)
    y = torch.randn(40, 3, dtype=torch.float64)
    convert(model, rule, example=x)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        with targets(model, y) if rule == "drtp" else learning(model, y):
            mse_loss(model(x), y).backward()
        optimizer.step()
    below, inner, above = (model[at].feedback.numpy() for at in (1, 2, 3))
    for layer, left, right in ((model[1], inner, below), (model[2], above, inner)):
        w = layer.weight.detach().numpy()
        a = np.linalg.pinv(left.T) @ w @ np.linalg.pinv(right)
        assert np.linalg.norm(w) > 0.01
        assert np.linalg.norm(w - left.T @ a @ right) < 1e-14 * np.linalg.norm(w)


class Block(nn.Module):
    """A residual block: its skip keeps the exact credit, and its inner layer gets direct feedback."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.inside, self.out = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.below(x))
        return self.out(h + torch.tanh(self.inside(h)))


def test_below_a_residual_block_the_credits_of_block_and_skip_are_added() -> None:
    torch.manual_seed(0)
    model, x = Block().double(), X[:, 0, 0, :4]
    convert(model, "dfa", example=x)
    out = model(x)
    out.retain_grad()
    cross_entropy(out, Y).backward()
    h = torch.tanh(x @ model.below.weight.t() + model.below.bias)
    credit = out.grad @ (model.inside.feedback + model.out.feedback)
    expected = (credit * (1 - h**2)).t() @ x
    torch.testing.assert_close(model.below.weight.grad, expected, rtol=0, atol=1e-15)


# Autograd.


@pytest.mark.parametrize("rule", DIRECT)
@pytest.mark.parametrize("which", ["all", "hidden", "output"])
def test_checkpointed_blocks_have_the_same_gradients(which: str, rule: str) -> None:
    model = network("conv2d", rule)
    parts = {"all": [model], "hidden": [model[:5], model[5:]], "output": [model[:3], model[3:]]}[which]
    kept = {"all": (0,), "hidden": (0,), "output": (1,)}[which]

    def run(x: Tensor) -> Tensor:
        for at, part in enumerate(parts):
            x = checkpoint(part, x, use_reentrant=False) if at in kept else part(x)
        return x

    assert_same(gradients(model, run), gradients(model))
    assert model[0]._state.taps == []


@pytest.mark.parametrize("rule", DIRECT)
def test_two_passes_before_their_backward_passes(rule: str) -> None:
    model = network("linear", rule)
    expected = gradients(model)
    model.zero_grad()
    losses = []
    for _ in range(2):
        with learning(model, Y):
            losses.append(cross_entropy(model(X), Y))
    with torch.no_grad():
        model(X)
    for loss in losses[::-1]:
        loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, 2 * expected[name])


def test_a_pass_that_broke_off_leaves_nothing_to_the_next() -> None:
    model = network("linear", "dfa")
    expected = gradients(model)
    model[:3](X)
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("rule", DIRECT)
def test_an_exact_pass_is_backpropagation_to_the_last_bit(rule: str) -> None:
    model = network("conv2d", rule)
    torch.manual_seed(0)
    true = LAYERS["conv2d"]().double()
    layers = [layer for layer in model if isinstance(layer, DirectLayer)]
    with layers[0].exact(), layers[1].exact(), layers[2].exact():
        found = gradients(model)
    assert all(torch.equal(one, gradients(true)[name]) for name, one in found.items())
    assert not torch.equal(gradients(model)["0.weight"], found["0.weight"])


@pytest.mark.parametrize("rule", DIRECT)
@pytest.mark.parametrize("case", LAYERS)
def test_gradcheck_passes_in_an_exact_pass_only(case: str, rule: str) -> None:
    model, x = network(case, rule), X[:2].clone().requires_grad_()
    layers = [layer for layer in model if isinstance(layer, DirectLayer)]

    def run(x: Tensor) -> Tensor:
        with learning(model, Y[:2]):
            return model(x)

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer.exact())
        assert torch.autograd.gradcheck(run, (x,), fast_mode=True)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(run, (x,), fast_mode=True)


@pytest.mark.parametrize("rule", DIRECT)
def test_other_feedback_is_used_inside_only(rule: str) -> None:
    model = network("linear", rule)
    before = gradients(model)
    with model[3].using_feedback(2 * model[3].feedback):
        twice = gradients(model)
    torch.testing.assert_close(twice["1.weight"], 2 * before["1.weight"])
    assert_same(gradients(model), before)


def test_autocast_gives_float32_gradients_near_the_full_precision_ones() -> None:
    for rule in DIRECT:
        model = network("conv2d", rule).float()
        found = []
        for enabled in (True, False):
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled), learning(model, Y):
                cross_entropy(model(X.float()), Y).backward()
            found.append([p.grad.clone() for p in model.parameters()])
        for got, expected in zip(*found, strict=True):
            assert got.dtype == torch.float32
            assert (got - expected).norm() < 0.03 * expected.norm()


def test_a_copy_shares_no_pass_with_its_model() -> None:
    model = network("linear", "dfa")
    model[:3](X)  # a tap waits
    other = copy.deepcopy(model)
    assert other[1]._state is other[3]._state is not model[1]._state
    assert other[1]._state.taps == []
    assert_same(gradients(other), gradients(model))


# The example.


def test_the_example_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(98, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    model.double()[2].eval()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    convert(model, "dfa", example=X)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert [module.training for module in model] == [True, True, False, True, True]
    assert not any(module._forward_hooks for module in model)


@pytest.mark.parametrize("example", [(X, 2.0), {"x": X, "factor": 2.0}], ids=["tuple", "mapping"])
def test_an_example_may_be_several_arguments(example: object) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(98, 3).double()

        def forward(self, x: Tensor, factor: float) -> dict[str, Tensor]:
            return {"logits": self.fc(factor * x.flatten(1))}

    assert convert(Scaled(), "dfa", example=example).fc.feedback.shape == (3, 98)


class Shaped(nn.Module):
    """It changes the shape of its outputs, returns a hidden signal too, and calls a layer for nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.below, self.out, self.idle = nn.Linear(98, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu_(self.below(x.flatten(1)))
        outputs = self.out(hidden)
        self.idle(outputs)
        return torch.relu_(outputs).reshape(-1, 2, 2), hidden


@pytest.mark.parametrize("frozen", [False, True])
def test_the_output_layer_is_the_last_that_the_outputs_come_from(frozen: bool) -> None:
    def is_output(*layers: str) -> list[str]:
        model = Shaped().double().requires_grad_(not frozen)
        uses = uses_of(model, {name: model.get_submodule(name) for name in layers}, X)
        assert {p.requires_grad for p in model.parameters()} == {not frozen}
        return [name for name, use in uses.items() if use.is_output]

    assert is_output("below", "out", "idle") == ["out"]
    assert is_output("out") == ["out"]
    assert is_output("below") == []


def test_a_residual_output_layer_is_the_output_layer() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.out = nn.Linear(98, 3).double(), nn.Linear(3, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.below(x.flatten(1))
            return hidden + self.out(torch.tanh(hidden))

    model = convert(Residual(), "dfa", example=X)
    assert [model.below.is_output, model.out.is_output] == [False, True]


def twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(nn.Flatten(), nn.Linear(98, 3), layer, nn.Tanh(), layer, nn.Linear(3, 3)).double()


def unused() -> nn.Module:
    model = network_of("linear")
    model[1].spare = nn.Linear(3, 3).double()
    return model


def network_of(case: str) -> nn.Sequential:
    return LAYERS[case]().double()


def layers_of(*widths: int) -> nn.Sequential:
    layers = [nn.Linear(i, o) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))


class Positions(nn.Module):
    """A layer that reads positions as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.out = nn.Linear(49, 5).double(), nn.Linear(10, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.each(x.reshape(-1, 49))).reshape(len(x), -1))


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, object], str]] = {
    "no example": (
        lambda: network_of("linear"),
        {"example": None},
        "rule 'dfa' needs a batch.*give example=x",
    ),
    "twice": (twice, {}, "layer '2' is called more than once in a pass.*leave it out by layers="),
    "not called": (unused, {}, "layer '1.spare' is not called in the pass of the example; leave it out"),
    "no samples": (
        Positions,
        {},
        r"layer 'each' has an input of shape \(12, 49\).*the 6 samples of the outputs; leave it out",
    ),
    "no output layer": (
        lambda: network_of("linear"),
        {"layers": ["1"]},
        r"the last layer called, '1', is not the output layer.*add the output layer to layers=",
    ),
    "a hidden layer as wide as the outputs": (
        lambda: nn.Sequential(nn.Flatten(), *layers_of(98, 3, 3, 3)).double(),
        {"layers": ["1", "3"]},
        "the last layer called, '3', is not the output layer",
    ),
    "a frozen output layer above": (
        lambda: nn.Sequential(nn.Flatten(), *layers_of(98, 3, 3).requires_grad_(False)).double(),
        {"layers": ["1"]},
        "the last layer called, '1', is not the output layer",
    ),
    "outputs with positions": (
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(49, 3)).double(),
        {},
        r"'1' returns the shape \(6, 2, 3\).*\(sample, outputs\); give a model that pools",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_direct_feedback_cannot_take_is_refused_and_the_model_left_whole(case: str) -> None:
    build, options, match = REFUSED[case]
    model = build()
    with pytest.raises(InputError, match=match):
        convert(model, "dfa", **{"example": X, **options})
    assert not [name for name, _ in model.named_buffers()]
    assert not any(isinstance(module, DirectLayer) for module in model.modules())


def test_a_layer_without_the_outputs_error_says_so() -> None:
    model = network("linear", "dfa")
    with pytest.raises(
        InputError, match="layer '1' gets no error from the network's outputs; call the whole"
    ):
        model[:3](X.clone().requires_grad_()).sum().backward()
    hidden = checkpoint(model[:3], X.clone().requires_grad_(), use_reentrant=True)
    with pytest.raises(InputError, match="checkpoint with use_reentrant=False"):
        model[3](hidden).sum().backward()


def test_an_input_of_another_size_is_refused_by_name() -> None:
    model = network("conv2d", "dfa")
    with pytest.raises(
        InputError, match=r"layer '0' has an input of \(2, 9, 9\) per sample.*\(2, 7, 7\); give"
    ):
        model(torch.zeros(N, 2, 9, 9, dtype=torch.float64))


# Targets.


def test_targets_may_be_indices_or_one_hot_and_the_scale_is_the_mean_losss() -> None:
    model = network("linear", "drtp")
    found = {}
    one_hot = torch.eye(3)[Y]
    for name, y, scale in (
        ("default", Y, None),
        ("one_hot", one_hot, None),
        ("given", Y, -1 / N),
        ("authors", Y, 1.0),
    ):
        model.zero_grad()
        with targets(nn.DataParallel(model), y, scale):
            cross_entropy(model(X), Y).backward()
        found[name] = model[1].weight.grad.clone()
    assert torch.equal(found["default"], found["one_hot"])
    assert torch.equal(found["default"], found["given"])
    torch.testing.assert_close(found["authors"], -N * found["default"])


def test_targets_hold_inside_only_and_do_not_vanish_with_the_loss() -> None:
    model = network("linear", "drtp")
    with targets(model, Y), targets(model, (Y + 1) % 3):
        pass
    assert model[1]._state.credit is None
    with pytest.raises(RuntimeError, match="inside"), targets(model, Y):
        raise RuntimeError("inside")
    assert model[1]._state.credit is None
    with targets(model, Y):
        (0 * model(X).sum()).backward()
    assert float(model[1].weight.grad.abs().max()) > 0
    assert float(model[3].weight.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("y", "scale", "match"),
    [
        (Y + 1, None, "class indices from 1 to 3, and the network has 3 outputs; give indices from 0 to 2"),
        (torch.ones(N, 4), None, r"torch.float32 of shape \(6, 4\); give class indices \(N,\), or targets"),
        (torch.ones(N), None, r"torch.float32 of shape \(6,\); give class indices"),
        (Y, float("nan"), "scale is nan; give a finite number, or leave it out"),
        (Y[:4], None, r"targets are for 4 samples, and layer '1' has an input of 6; give targets\(\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(y: Tensor, scale: float | None, match: str) -> None:
    model = network("linear", "drtp")
    with pytest.raises(InputError, match=match), targets(model, y, scale):
        model(X)


def test_drtp_without_targets_is_refused() -> None:
    model = network("linear", "drtp")
    with pytest.raises(
        InputError, match=re.escape("call the model inside `with fadiag.rules.targets(model, y):`")
    ):
        model(X)
    with torch.no_grad():
        assert model(X).shape == (N, 3)
    with pytest.raises(InputError, match=r"Sequential has no layer under the rule 'drtp'.*; convert it"):
        targets(network("linear", "dfa"), Y).__enter__()
