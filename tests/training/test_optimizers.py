"""The optimizers: torch's own as oracle, the spectrum of a step, who takes which layer, rates over time."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from fadiag.errors import ConfigError
from fadiag.rules import convert
from fadiag.training import Config, ModelConfig, OptimizerConfig, RestConfig
from fadiag.training.layer_order import layers_in_order
from fadiag.training.learning_rule import apply_rule
from fadiag.training.models import build_model
from fadiag.training.optimizers import (
    Muon,
    NormalizedSGD,
    build_optimizers,
    matrix_layers,
    newton_schulz,
    polar_factor,
    rate_factor,
    set_rates,
)

SHAPES = [(6, 10), (10, 6), (8, 8), (6, 10)]


def weights(shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_bf16_muon_is_torchs(decay: float) -> None:
    ours, theirs = weights(), weights()
    options = {"momentum": 0.9, "weight_decay": decay}
    one, other = (
        Muon(ours, 0.02, **options),
        torch.optim.Muon(theirs, 0.02, adjust_lr_fn="original", **options),
    )
    for step in range(5):
        for optimizer, parameters in ((one, ours), (other, theirs)):
            give_gradients(parameters, step)
            optimizer.step()
    for a, b, start in zip(ours, theirs, weights(), strict=True):
        moved = (b - start).norm()
        assert moved > 0.1
        # The batched product may round otherwise, to bfloat16.
        assert (a - b).norm() < 0.01 * moved


@pytest.mark.parametrize("how", ["bf16", "float32", "polar"])
def test_matrices_of_one_shape_do_not_mix(how: str) -> None:
    together, alone = weights(), weights()
    give_gradients(together, 1)
    give_gradients(alone, 1)
    Muon(together, 0.1, orthogonalization=how).step()
    for parameter in alone:
        Muon([parameter], 0.1, orthogonalization=how).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 if how == "bf16" else 1e-6, rtol=0)


def test_gradients_stay_as_they_are() -> None:
    parameters = weights()
    give_gradients(parameters, 0)
    before = [p.grad.clone() for p in parameters]
    Muon(parameters, 0.1).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, before, strict=True))


@pytest.mark.parametrize("how", ["float32", "polar"])
def test_a_kernel_is_a_matrix_of_outputs_by_all_else(how: str) -> None:
    kernel = nn.Parameter(torch.zeros(12, 2, 3, 3))
    give_gradients([kernel], 0)
    matrix = nn.Parameter(torch.zeros(12, 18))
    matrix.grad = kernel.grad.reshape(12, 18)
    for parameter in (kernel, matrix):
        Muon([parameter], 0.1, orthogonalization=how).step()
    assert torch.equal(kernel.reshape(12, 18), matrix)


@pytest.mark.parametrize(
    ("shape", "scale"), [((6, 10), 1.0), ((10, 6), (10 / 6) ** 0.5), ((12, 1, 2, 2), 3**0.5)]
)
def test_the_polar_step_has_equal_singular_values_of_torchs_scale(shape: tuple, scale: float) -> None:
    parameter = nn.Parameter(torch.zeros(shape))
    give_gradients([parameter], 0)
    Muon([parameter], 0.1, orthogonalization="polar").step()
    s = torch.linalg.svdvals(parameter.detach().flatten(1).double())
    torch.testing.assert_close(s, torch.full_like(s, 0.1 * scale), rtol=1e-5, atol=0)


def test_the_polar_factor_is_that_of_the_svd_over_what_is_no_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(3, 7, 4, generator=generator), torch.randn(3, 4, 9, generator=generator)
    batch = left @ right  # rank 4 of 7, the rest rounding
    u, _, v = torch.linalg.svd(batch.double(), full_matrices=False)
    expected = (u[:, :, :4] @ v[:, :4]).float()
    torch.testing.assert_close(polar_factor(batch), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(polar_factor(batch.mT), expected.mT, atol=1e-5, rtol=0)
    torch.testing.assert_close(polar_factor(batch, 2), (u[:, :, :2] @ v[:, :2]).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(polar_factor(batch, 99), expected, atol=1e-5, rtol=0)
    assert not polar_factor(torch.zeros(2, 3, 4)).any()


def test_precision_makes_the_rank_of_a_step() -> None:
    """Of a rank-1 gradient of 128 x 64 the update had rank 1.0 in float32 and 17.8 in torch's bf16."""

    def rank(how: str) -> float:
        parameter = nn.Parameter(torch.zeros(128, 64))
        generator = torch.Generator().manual_seed(0)
        parameter.grad = torch.randn(128, 1, generator=generator) @ torch.randn(1, 64, generator=generator)
        Muon([parameter], 0.1, orthogonalization=how).step()
        p = torch.linalg.svdvals(parameter.detach().double()).square()
        p = p / p.sum()
        return float(torch.exp(torch.special.entr(p).sum()))

    assert rank("polar") == pytest.approx(1.0, abs=1e-4)
    assert rank("float32") == pytest.approx(1.0, abs=0.01)
    assert 12 < rank("bf16") < 25


def test_newton_schulz_brings_singular_values_near_one() -> None:
    batch = torch.randn(2, 20, 50, generator=torch.Generator().manual_seed(0))
    s = torch.linalg.svdvals(newton_schulz(batch, torch.float32))
    assert s.min() > 0.6
    assert s.max() < 1.3


def test_a_normalized_step_is_as_long_as_muons_and_along_the_momentum() -> None:
    ours, muons = weights(), weights()
    gradients = []
    for parameters in (ours, muons):
        give_gradients(parameters, 3)
        gradients.append([p.grad for p in parameters])
    NormalizedSGD(ours, 0.1, momentum=0.9).step()
    Muon(muons, 0.1, momentum=0.9, orthogonalization="polar").step()
    for one, other, start, gradient in zip(ours, muons, weights(), gradients[0], strict=True):
        step = (one - start).flatten()
        torch.testing.assert_close(step.norm(), (other - start).norm(), rtol=1e-4, atol=0)
        assert torch.cosine_similarity(step, -gradient.flatten(), dim=0) > 0.99999


LAYERS = {name: nn.Linear(3, 3) for name in "abcd"}


@pytest.mark.parametrize(("which", "names"), [("hidden", "bc"), ("all_but_last", "abc"), ("all", "abcd")])
def test_layers_are_taken_by_their_order(which: str, names: str) -> None:
    assert "".join(matrix_layers(OptimizerConfig(name="muon", layers=which), LAYERS)) == names


def test_convolutions_with_groups_and_shared_output_weights_are_not_taken() -> None:
    layers = {"depth": nn.Conv2d(4, 4, 3, groups=4), "b": nn.Linear(3, 3), "tied": nn.Linear(3, 3)}
    layers["out"] = nn.Linear(3, 3)
    layers["out"].weight = layers["tied"].weight
    assert list(matrix_layers(OptimizerConfig(name="muon"), layers)) == ["b"]


@pytest.mark.parametrize("name", ["sgd", "muon", "normalized_sgd"])
def test_a_frozen_weight_belongs_to_no_optimizer(name: str) -> None:
    config = Config(optimizer=OptimizerConfig(name=name))
    model = build_model(config.model, (4,), 2, seed=0)
    model.fc2.weight.requires_grad = False
    optimizers, taken = build_optimizers(config, model, layers_in_order(model, torch.zeros(1, 4)))
    assert taken == ([] if name == "sgd" else ["fc1", "fc3"])
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in model.named_parameters() if name != "fc2.weight"}


@pytest.mark.parametrize("name", ["muon", "normalized_sgd"])
def test_the_rest_has_an_optimizer_and_a_rate_of_its_own(name: str) -> None:
    rest = RestConfig(name="sgd", learning_rate=0.5, momentum=0.3)
    config = Config(
        optimizer=OptimizerConfig(name=name, learning_rate=2.0, rest=rest),
        model=ModelConfig(name="vgg", width=4, norm="batch"),
    )
    model = build_model(config.model, (3, 8, 8), 10, seed=0)
    layers = layers_in_order(model, torch.zeros(2, 3, 8, 8))
    model = convert(model)
    (matrices, others), taken = build_optimizers(config, model, layers)
    assert isinstance(matrices, Muon if name == "muon" else NormalizedSGD)
    assert isinstance(others, torch.optim.SGD)
    assert taken == [f"conv{number}" for number in range(1, 7)]
    held = [p for group in matrices.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(model.get_submodule(n).weight) for n in taken]
    rest_held = [p for group in others.param_groups for p in group["params"]]
    assert sorted(map(id, held + rest_held)) == sorted(id(p) for p in model.parameters())
    set_rates([matrices, others], 0.5)
    assert [o.param_groups[0]["lr"] for o in (matrices, others)] == [1.0, 0.25]
    assert others.param_groups[0]["momentum"] == 0.3


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_takes_momentum_and_beta2(name: str, kind: type) -> None:
    config = Config(optimizer=OptimizerConfig(name=name, momentum=0.8, beta2=0.95, weight_decay=0.1))
    model = build_model(config.model, (4,), 2, seed=0)
    (optimizer,), taken = build_optimizers(config, model, layers_in_order(model, torch.zeros(1, 4)))
    assert type(optimizer) is kind
    assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.8, 0.95), 0.1)
    assert taken == []


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm, weight_norm])
@pytest.mark.parametrize("normed", [0, 2, 4])
def test_a_layer_with_a_computed_weight_keeps_its_place(norm, normed: int) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        sizes = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)]
        norm(sizes[normed])
        return nn.Sequential(*sizes)

    model, x = network(), torch.ones(3, 4)
    layers = layers_in_order(model, x)
    assert list(layers) == ["0", "2", "4"]
    apply_rule(Config(rule="frozen"), model, layers, x)
    assert all(name.startswith("4.") == p.requires_grad for name, p in model.named_parameters())
    # Muon takes matrices that it can update, so not the parts of a computed weight.
    model = network()
    config = Config(rule="bp", optimizer=OptimizerConfig(name="muon"))
    optimizers, taken = build_optimizers(config, model, layers_in_order(model, x))
    assert taken == [name for name in ("0", "2") if name != str(normed)]
    held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_frozen_hidden_layers_leave_muon_nothing() -> None:
    config = Config(rule="frozen", optimizer=OptimizerConfig(name="muon"))
    model = build_model(config.model, (4,), 2, seed=0)
    with pytest.raises(ConfigError, match="rule 'frozen' trains the last layer only; take 'sgd'"):
        build_optimizers(config, model, layers_in_order(model, torch.zeros(1, 4)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.854, 0.5, 0.146]),
        ({"schedule": "constant", "warmup_steps": 2}, [0.5, 1, 1, 1]),
        ({"schedule": "cosine", "warmup_steps": 2}, [0.5, 1, 1, 0.5]),
        ({"schedule": "cosine", "warmup_steps": 9}, [1 / 9, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_rates_over_time(options: dict, expected: list[float]) -> None:
    config = OptimizerConfig(**options)
    assert [rate_factor(config, step, 4) for step in range(4)] == pytest.approx(expected, abs=1e-3)
