"""The reference network: a multilayer perceptron with named layers."""

from collections import OrderedDict

import torch
from torch import nn

from fadiag.training.config import ModelConfig

__all__ = ["build_model", "hidden_layers"]


def build_model(config: ModelConfig, inputs: int, classes: int, seed: int) -> nn.Sequential:
    """Build the perceptron: flatten; for each hidden layer fc, norm (where asked for) and ReLU; out.

    Weights are Kaiming-normal times ``init_scale``, biases zero. They depend on the seed only: torch's own
    generator is neither read nor advanced.

    Examples
    --------
    >>> model = build_model(ModelConfig(hidden=(8,), norm="batch"), inputs=4, classes=2, seed=0)
    >>> [name for name, _ in model.named_children()]
    ['flatten', 'fc1', 'norm1', 'relu1', 'out']
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = inputs
    for number, units in enumerate(config.hidden, start=1):
        modules[f"fc{number}"] = _linear(width, units, config.init_scale, generator)
        if config.norm == "batch":
            modules[f"norm{number}"] = nn.BatchNorm1d(units, device="cpu")
        modules[f"relu{number}"] = nn.ReLU()
        width = units
    modules["out"] = _linear(width, classes, config.init_scale, generator)
    return nn.Sequential(modules)


def hidden_layers(model: nn.Sequential) -> list[str]:
    """Return the names of the hidden layers, in forward order."""
    return [name for name, _ in model.named_children() if name.startswith("fc")]


def _linear(inputs: int, outputs: int, scale: float, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator).mul_(scale)
        nn.init.zeros_(layer.bias)
    return layer
