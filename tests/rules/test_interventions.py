"""Backpropagation with errors of low rank, and through a twin's gates, against float64 numpy and torch."""

import copy
import pickle
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

from fadiag.errors import InputError
from fadiag.rules import INTERVENTIONS, RULES, AlteredModule, convert
from fadiag.rules.layers.gates import GATES, OTHER_GATES
from fadiag.rules.layers.projection import leading_part

N = 12
X = torch.randn(N, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % 3


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, groups=2),
        nn.ReLU(inplace=True),
        nn.Flatten(2),
        nn.Conv1d(6, 5, 3, dilation=2),
        nn.Tanh(),
        nn.Linear(12, 4),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(20, 3),
    ).double()


def gradients(
    model: nn.Module, x: Tensor = X, before: Callable[[], object] = lambda: None
) -> dict[str, Tensor]:
    model.zero_grad()
    x = x.clone().requires_grad_()
    before()
    cross_entropy(model(x), Y).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()} | {"input": x.grad}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert all(torch.equal(gradient, other[name]) for name, gradient in one.items())


def test_interventions_are_no_learning_rules() -> None:
    assert [rule.name for rule in INTERVENTIONS] == ["rank_limited", "borrowed_gates"]
    assert not {rule.name for rule in INTERVENTIONS} & {rule.name for rule in RULES}


# Rank-limited backpropagation.


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_the_leading_part_is_that_of_the_svd(shape: tuple[int, int], scale: float) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for rank in (1, 3, 6):
        u, s, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
        expected = (u[:, :rank] * s[:rank]) @ v[:rank]
        found = leading_part(scale * matrix, rank).numpy() / scale
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert np.array_equal(found, leading_part(scale * matrix, rank).numpy() / scale)
    for rank in (7, 9, 50):
        if rank >= min(shape):
            assert leading_part(matrix, rank) is matrix


def test_ties_zeros_and_errors_that_are_not_finite() -> None:
    tied = torch.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    part = leading_part(tied, 2)
    assert np.linalg.matrix_rank(part.numpy(), tol=1e-6) == 2
    assert float(part.norm()) == pytest.approx(2.0)
    assert not leading_part(torch.zeros(5, 3), 2).any()
    tied[0, 0] = float("nan")
    assert leading_part(tied, 2).isnan().any()
    tied[0, 0] = float("inf")
    assert not leading_part(tied, 2).isfinite().all()


@pytest.mark.parametrize("rank", [1, 2])
def test_an_mlp_of_low_rank_follows_numpy(rank: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    x = X[:, 0, 0]
    found = gradients(convert(model, "rank_limited", rank=rank, example=x), x)
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in model.parameters())
    h0 = x.numpy()
    h1 = np.tanh(h0 @ w1.T + b1)
    a2 = h1 @ w2.T + b2
    h2 = np.maximum(a2, 0)
    p = np.exp(h2 @ w3.T + b3)
    top = (p / p.sum(1, keepdims=True) - np.eye(3)[Y.numpy()]) / N

    def limited(error: np.ndarray) -> np.ndarray:
        v = np.linalg.svd(error)[2][:rank]
        return error @ v.T @ v

    e2 = limited((top @ w3) * (a2 > 0))
    e1 = limited((e2 @ w2) * (1 - h1**2))
    expected = {
        "0.weight": e1.T @ h0,
        "0.bias": e1.sum(0),
        "2.weight": e2.T @ h1,
        "4.weight": top.T @ h2,
        "input": e1 @ w1,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=0, atol=1e-14)
    assert np.linalg.matrix_rank(found["2.weight"].numpy(), tol=1e-12) == rank


def test_channels_are_the_units_of_a_convolution() -> None:
    model, true = convert(cnn(), "rank_limited", rank=2, example=X), cnn()
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            layer.register_forward_hook(
                lambda m, i, o, name=name: o.register_hook(lambda g: seen.update({name: g.clone()})) and None
            )
    found = gradients(model)
    for name, axis in (("0", 1), ("3", 1), ("5", -1)):
        rows = seen[name].movedim(axis, -1).flatten(0, -2)
        assert np.linalg.matrix_rank(rows.numpy(), tol=1e-10) == 2
    assert torch.equal(found["8.weight"], gradients(true)["8.weight"])
    assert not torch.allclose(found["5.weight"], gradients(true)["5.weight"])


def test_the_full_rank_is_backpropagation_to_the_last_bit() -> None:
    model = convert(cnn(), "rank_limited", rank=6, example=X)
    assert_equal(gradients(model), gradients(cnn()))
    limited = convert(cnn(), "rank_limited", rank=1, example=X)
    with limited[0].exact(), limited[3].exact(), limited[5].exact():
        assert_equal(gradients(limited), gradients(cnn()))


def test_only_the_output_layer_keeps_its_whole_error() -> None:
    def ranks(*above: nn.Module, **options) -> list[int]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4), nn.Tanh(), nn.Linear(4, 4), *above).double()
        convert(model, "rank_limited", rank=1, example=X, **options)
        return [layer.rank for layer in model if isinstance(layer, AlteredModule)]

    assert ranks(nn.Unflatten(1, (2, 2))) == [1, 0]
    assert ranks(nn.Tanh(), nn.Linear(4, 4), layers=["1", "3"]) == [1, 1]
    assert ranks(nn.Tanh(), nn.Linear(4, 4)) == [1, 1, 0]


def test_transposed_linear_layers_are_limited_too() -> None:
    conv1d = pytest.importorskip("transformers").pytorch_utils.Conv1D
    torch.manual_seed(0)
    one = nn.Sequential(nn.Flatten(2), conv1d(5, 36), nn.Tanh(), nn.Flatten(), conv1d(3, 10)).double()
    two = nn.Sequential(nn.Flatten(2), nn.Linear(36, 5), nn.Tanh(), nn.Flatten(), nn.Linear(10, 3)).double()
    for at in (1, 4):
        two[at].load_state_dict({"weight": one[at].weight.t(), "bias": one[at].bias})
    found, expected = (gradients(convert(m, "rank_limited", rank=2, example=X)) for m in (one, two))
    for name, gradient in expected.items():
        got = found[name].t() if name.endswith("weight") else found[name]
        torch.testing.assert_close(got, gradient, rtol=0, atol=1e-14)
    assert "nf=5, nx=36, rule='rank_limited', rank=2" in repr(one)


def test_a_limited_model_compiles_copies_and_works_under_autocast_and_func() -> None:
    torch.compiler.reset()
    model = convert(cnn(), "rank_limited", rank=2, example=X)
    model[1].inplace = False
    expected = gradients(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    model.zero_grad()
    cross_entropy(compiled(X), Y).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=0, atol=1e-15)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(gradients(other), expected)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    found = grad(lambda w: cross_entropy(functional_call(model, w, (X,)), Y))(weights)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-15)
    model.float().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        cross_entropy(model(X.float()), Y).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


# Borrowed gates.


@pytest.mark.parametrize("gate", GATES, ids=lambda kind: kind.__name__)
def test_with_its_own_gates_a_network_learns_by_backpropagation_to_the_last_bit(
    gate: type[nn.Module],
) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(72, 8), gate(), nn.Linear(8, 5), gate(), nn.Linear(5, 3)
        ).double()

    model, twin = network(), network()
    convert(model, "borrowed_gates", twin=twin)
    assert_equal(gradients(model, before=lambda: twin(X)), gradients(network()))


def test_the_derivatives_are_the_twins_in_numpy() -> None:
    def network(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)
        ).double()

    x = X[:, 0, 0]
    twin, model = convert(network(1)), network(0)
    convert(model, "borrowed_gates", twin=twin)
    with torch.no_grad():
        a1 = twin[0](x).numpy()
        a2 = twin[2](torch.tanh(twin[0](x))).numpy()
    found = gradients(model, x, lambda: twin(x))
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in model.parameters())
    h1 = np.tanh(x.numpy() @ w1.T + b1)
    h2 = np.maximum(h1 @ w2.T + b2, 0)
    p = np.exp(h2 @ w3.T + b3)
    top = (p / p.sum(1, keepdims=True) - np.eye(3)[Y.numpy()]) / N
    e2 = (top @ w3) * (a2 > 0)
    e1 = (e2 @ w2) * (1 - np.tanh(a1) ** 2)
    expected = {"0.weight": e1.T @ x.numpy(), "2.weight": e2.T @ h1, "4.weight": top.T @ h2}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=0, atol=1e-15)
    with model[1].exact(), model[3].exact():
        exact = gradients(model, x)
    assert_equal(exact, gradients(network(0), x))
    assert not torch.allclose(exact["0.weight"], found["0.weight"])


def test_borrowed_gates_compile_and_work_under_autocast_and_func() -> None:
    torch.compiler.reset()
    twin, model = convert(cnn()), cnn()
    convert(model, "borrowed_gates", twin=twin)
    expected = gradients(model, X, lambda: twin(X))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        model.zero_grad()
        twin(X)
        cross_entropy(compiled(X), Y).backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.grad, expected[name], rtol=0, atol=1e-15)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    twin(X)
    found = grad(lambda w: cross_entropy(functional_call(model, w, (X,)), Y))(weights)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-15)
    model.float().zero_grad()
    twin.float()
    with torch.autocast("cpu", torch.bfloat16):
        twin(X.float())
        cross_entropy(model(X.float()), Y).backward()
    for name, p in model.named_parameters():
        assert p.grad.dtype == torch.float32
        assert (p.grad - expected[name]).norm() < 0.1 * expected[name].norm()


def test_each_pass_needs_a_pass_of_the_twin_of_the_same_shape() -> None:
    twin, model = convert(cnn()), cnn()
    convert(model, "borrowed_gates", twin=twin)
    with pytest.raises(
        InputError, match="gate '1' has no pre-activation of the twin; call the twin on the same"
    ):
        model(X)
    twin(X)
    model(X)
    with pytest.raises(InputError, match="no pre-activation"):
        model(X)
    twin(X[:5])
    with pytest.raises(
        InputError, match=r"gate '1' has a pre-activation of shape \(12, 6, 4, 4\), and the twin's"
    ):
        model(X)
    with torch.no_grad():
        assert model(X).shape == (N, 3)
    twin(X)
    twin(X)  # the last one counts
    model(X)
    with pytest.raises(InputError, match="no pre-activation"):
        model(X)
    # A pass that needs no gates takes them too: they are not those of the next batch.
    with ExitStack() as exact:
        for gate in model.modules():
            if isinstance(gate, AlteredModule):
                exact.enter_context(gate.exact())
        twin(X)
        model(X)
    with pytest.raises(InputError, match="no pre-activation"):
        model(X)
    twin(X)
    with torch.no_grad():
        model(X)
    with pytest.raises(InputError, match="no pre-activation"):
        model(X)


def test_a_gate_cannot_run_again_in_a_checkpoint() -> None:
    twin, model = convert(cnn()), cnn()
    convert(model, "borrowed_gates", twin=twin)
    twin(X)
    loss = torch.utils.checkpoint.checkpoint(model, X.clone().requires_grad_(), use_reentrant=False).sum()
    with pytest.raises(InputError, match=r"gate '1' runs again.*; leave out the checkpointing"):
        loss.backward()


def test_a_pair_can_be_copied_together() -> None:
    twin, model = convert(cnn()), cnn()
    convert(model, "borrowed_gates", twin=twin)
    expected = gradients(model, X, lambda: twin(X))
    twin(X)
    for copied in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        new_twin, new_model = copied((twin, model))
        assert_equal(gradients(new_model, X, lambda new_twin=new_twin: new_twin(X)), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rule": "rank_limited", "rank": 2}, "rule 'rank_limited' needs a batch"),
        ({"rule": "rank_limited", "example": X}, "rank is None; give the number of directions"),
        ({"rule": "rank_limited", "rank": 0, "example": X}, "rank is 0; give the number"),
        ({"rule": "fa", "rank": 2}, "rank= is for rule 'rank_limited', and the rule is fa; leave it out"),
        ({"rule": "borrowed_gates"}, "twin is a NoneType; give the network whose gates"),
        (
            {"rule": "borrowed_gates", "twin": nn.Linear(2, 2)},
            "gate '1' is ReLU in the model and nothing in the",
        ),
        ({"rule": "borrowed_gates", "twin": cnn(), "layers": ["1"]}, "changes all activation modules"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        convert(cnn(), **options)


def test_borrowed_gates_go_with_no_other_rule() -> None:
    for rule in ("fa", "dfa", "rank_limited", "borrowed_gates"):
        model = convert(cnn(), "borrowed_gates", twin=convert(cnn()))
        options = {
            "rank_limited": {"rank": 1, "example": X},
            "dfa": {"example": X},
            "borrowed_gates": {"twin": cnn()},
        }
        with pytest.raises(
            InputError, match=r"'borrowed_gates' needs exact matrices.*are '1', '4', '6'; build a fresh"
        ):
            convert(model, rule, **options.get(rule, {}))
    with pytest.raises(InputError, match=r"converted are '0', '3', '5', '8'; build a fresh model"):
        convert(convert(cnn()), "borrowed_gates", twin=cnn())


def test_a_twin_has_modules_of_its_own() -> None:
    model = cnn()
    with pytest.raises(
        InputError, match="model and twin share the gate '1'; give a twin with modules of its"
    ):
        convert(model, "borrowed_gates", twin=model)
    assert not any(isinstance(module, AlteredModule) for module in model.modules())


class OwnReLU(nn.ReLU):
    """Somebody's own gate."""


@pytest.mark.parametrize("gate", [*OTHER_GATES, OwnReLU], ids=lambda kind: kind.__name__)
def test_an_activation_that_cannot_borrow_is_refused_by_name(gate: type[nn.Module]) -> None:
    models = (cnn(), cnn())
    for model in models:
        model[4] = gate(0.1, 0.0) if gate is nn.Threshold else gate()
    message = f"activation '4' is a {gate.__name__}, whose derivative cannot be borrowed; take one of nn.ReLU"
    with pytest.raises(InputError, match=message):
        convert(models[0], "borrowed_gates", twin=models[1])


def test_a_model_of_activation_functions_cannot_borrow() -> None:
    with pytest.raises(
        InputError, match=r"Linear has no activation module \(nn.ReLU.*\); build it with modules"
    ):
        convert(nn.Linear(2, 2), "borrowed_gates", twin=nn.Linear(2, 2))
