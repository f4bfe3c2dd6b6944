"""The built-in networks: layers and shapes, first weights by law, seed and gain, and what they refuse."""

import pytest
import torch
from torch import nn

from fadiag.errors import ConfigError
from fadiag.training import MODELS, ModelConfig
from fadiag.training.layer_order import layers_in_order
from fadiag.training.models import build_model

CIFAR = (3, 32, 32)


def layers_of(config: ModelConfig, shape=CIFAR, classes=10, seed=0):
    model = build_model(config, shape, classes, seed)
    return layers_in_order(model, torch.zeros(2, *shape))


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_takes_images_and_trains_with_every_norm(name: str, norm: str) -> None:
    config = ModelConfig(name=name, norm=norm, groups=2, width=None if name in {"mlp", "lenet"} else 4)
    model = build_model(config, CIFAR, 7, seed=0)
    x = torch.randn(3, *CIFAR, generator=torch.Generator().manual_seed(0))
    outputs = model(x)
    assert outputs.shape == (3, 7)
    outputs.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, key
    kinds = {
        "none": (),
        "batch": (nn.BatchNorm1d, nn.BatchNorm2d),
        "layer": (nn.LayerNorm, nn.GroupNorm),
        "group": nn.GroupNorm,
    }
    norms = [module for module in model.modules() if "Norm" in type(module).__name__]
    assert all(isinstance(module, kinds[norm]) for module in norms)
    # A norm for each layer but the output. A residual network's shortcuts have theirs too.
    assert len(norms) == (0 if norm == "none" else len(layers_in_order(model, x)) - 1)


@pytest.mark.parametrize(
    ("name", "weights", "parameters"),
    [
        # LeCun's counts without the output layer and the sparse table of the second convolution.
        ("lenet", 5, 61_706 + 2 * 150),
        ("vgg", 7, None),
        # He et al., Table 6: 0.27 million for ResNet-20. ResNet-18 for CIFAR has 11.17 million.
        ("resnet20", 22, 272_474),
        ("resnet18", 21, 11_173_962),
    ],
)
def test_networks_have_the_published_layers(name: str, weights: int, parameters: int | None) -> None:
    norm = "none" if name == "lenet" else "batch"
    model = build_model(ModelConfig(name=name, norm=norm), CIFAR, 10, seed=0)
    assert len(layers_in_order(model, torch.zeros(2, *CIFAR))) == weights
    if parameters is not None:
        assert sum(p.numel() for p in model.parameters()) == parameters


def test_weights_are_the_seeds_and_leave_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    config = ModelConfig(norm="batch", weight_scale=0.5)
    one, other = (build_model(config, (64,), 10, seed=4) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    # Kaiming: sqrt(2 / inputs), here halved; 128 x 128 entries, relative sd 0.6 %.
    assert one.fc2.weight.std().item() == pytest.approx(0.5 * (2 / 128) ** 0.5, rel=0.03)
    assert not one.fc2.bias.any()


@pytest.mark.parametrize("name", ["mlp", "resnet20"])
def test_networks_that_differ_in_norm_or_gate_only_have_the_same_weights(name: str) -> None:
    plain, other = (
        layers_of(ModelConfig(name=name, norm=norm, gate=gate))
        for norm, gate in (("none", "relu"), ("batch", "gelu"))
    )
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[key].weight, other[key].weight) for key in plain)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("kaiming_normal", 2**0.5 / 400**0.5),
        ("kaiming_uniform", 2**0.5 / 400**0.5),
        ("xavier_normal", 2**0.5 * (2 / 600) ** 0.5),
        ("torch", (1 / 3) ** 0.5 / 400**0.5),
    ],
)
def test_the_law_sets_the_scale_of_the_weights(init: str, std: float) -> None:
    model = build_model(ModelConfig(hidden=(200, 200), init=init), (400,), 150, seed=1)
    assert model.fc1.weight.std().item() == pytest.approx(std, rel=0.02)
    assert (model.fc1.weight.abs().max() <= 3**0.5 * std * 1.001).item() is (
        init in {"kaiming_uniform", "torch"}
    )
    assert bool(model.fc1.bias.any()) is (init == "torch")


def test_orthogonal_weights_are_orthogonal_with_the_gates_gain() -> None:
    model = build_model(ModelConfig(hidden=(30, 20), init="orthogonal", gate="tanh"), (40,), 5, seed=0)
    weight = model.fc1.weight.double()
    torch.testing.assert_close(weight @ weight.T, (5 / 3) ** 2 * torch.eye(30).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("init", ["kaiming_normal", "torch"])
def test_the_output_gain_is_the_output_layers_alone(init: str) -> None:
    one, two = (
        layers_of(ModelConfig(hidden=(20, 20), init=init, output_gain=gain), (30,)) for gain in (1.0, 2.0)
    )
    *hidden, last = one
    assert all(torch.equal(one[key].weight, two[key].weight) for key in hidden)
    torch.testing.assert_close(2 * one[last].weight, two[last].weight)


def test_the_default_output_gain_is_one_and_not_the_gates() -> None:
    model = build_model(ModelConfig(hidden=(400,)), (400,), 400, seed=0)
    assert model.out.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)


def test_the_model_does_not_depend_on_the_default_device() -> None:
    config = ModelConfig(name="resnet20", norm="batch", width=2)
    here = build_model(config, CIFAR, 2, seed=0).state_dict()
    with torch.device("meta"):
        there = build_model(config, CIFAR, 2, seed=0).state_dict()
    assert {name: tensor.device.type for name, tensor in there.items()} == dict.fromkeys(here, "cpu")
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


def test_the_norm_is_between_layer_and_gate() -> None:
    model = build_model(ModelConfig(hidden=(5, 4), norm="batch"), (6,), 3, seed=0)
    assert [type(module) for module in model] == [
        nn.Flatten,
        *[nn.Linear, nn.BatchNorm1d, nn.ReLU] * 2,
        nn.Linear,
    ]


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (ModelConfig(name="lenet"), (1, 8, 8), "'lenet' takes images of 28 x 28 or larger, not 8 x 8"),
        (ModelConfig(name="vgg"), (1, 4, 8), "'vgg' takes images of 8 x 8 or larger, not 4 x 8"),
        (
            ModelConfig(name="vgg"),
            (64,),
            r"takes images \(channels, height, width\); an input has shape \(64,\)",
        ),
        (ModelConfig(width=3), CIFAR, "model.width is for convolutional networks; an mlp has model.hidden"),
        (ModelConfig(name="lenet", width=3), CIFAR, "'lenet' has the widths of its paper"),
        (ModelConfig(name="vgg", hidden=(3,)), CIFAR, "model.hidden is for an mlp; 'vgg' has no use for it"),
        (
            ModelConfig(name="lenet", norm="group"),
            CIFAR,
            "model.groups is 4, which does not divide 6 units of a layer",
        ),
        (ModelConfig(name="given"), CIFAR, "model.name is 'given'; there are mlp, lenet, vgg, resnet18"),
    ],
)
def test_what_a_network_cannot_be_is_named(config: ModelConfig, shape: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(config, shape, 10, seed=0)


def test_the_order_is_that_of_the_calls_and_the_model_stays_as_it_was() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 2)
            self.table, self.bag = nn.Embedding(3, 3), nn.EmbeddingBag(3, 3)
            self.unused = nn.Linear(4, 2)
            self.norm = nn.BatchNorm1d(4, track_running_stats=True)
            self.plane = nn.LayerNorm((2, 2))
            self.first = nn.Linear(3, 4)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            self.norm.num_batches_tracked.add_(1)  # a model may write even in eval mode
            words = torch.zeros(len(x), dtype=torch.int64)
            x = x + torch.rand(()) + self.table(words) + self.bag(words[:, None])
            return self.last(self.drop(self.plane(self.norm(self.first(x)).view(-1, 2, 2)).flatten(1)))

    model = Backwards()
    model.norm.eval()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    assert list(layers_in_order(model, torch.ones(5, 3))) == ["first", "last"]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [model.training, model.norm.training, model.drop.training] == [True, False, True]
    assert not any(module._forward_pre_hooks for module in model.modules())
