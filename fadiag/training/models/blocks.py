"""Blocks makes the layers, norms and gates of the built-in networks, with their first weights."""

from typing import Any

import torch
from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.config import ModelConfig

__all__ = ["Blocks"]

_GATES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "linear": nn.Identity,
}
#: torch names no gain for GELU, which is ReLU's but for small values.
_GAIN_OF = {"relu": "relu", "tanh": "tanh", "gelu": "relu", "linear": "linear"}


class Blocks:
    """Makes the layers of one network as its configuration says.

    Weights are drawn when a layer is made, from a generator of this object's own. So they depend on the seed
    and on the layers before, and torch's own generator is left alone. Norms and gates draw nothing: networks
    that differ only in them have the same first weights.

    Parameters
    ----------
    config : ModelConfig
    seed : int

    Examples
    --------
    >>> blocks = Blocks(ModelConfig(norm="batch", gate="tanh"), seed=0)
    >>> nn.Sequential(blocks.linear(4, 3), blocks.norm(3), blocks.gate())
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
      (2): Tanh()
    )
    """

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config = config
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Return a hidden linear layer."""
        return self._linear(inputs, outputs, self._gain())

    def output(self, inputs: int, classes: int) -> nn.Linear:
        """Return the output layer."""
        return self._linear(inputs, classes, self.config.output_gain)

    def conv(self, inputs: int, outputs: int, size: int, *, stride: int = 1, padding: int = 0) -> nn.Conv2d:
        """Return a convolution, without a bias where a norm follows, which would take it away."""
        layer: nn.Conv2d = _empty(
            nn.Conv2d, inputs, outputs, size, stride=stride, padding=padding, bias=self.config.norm == "none"
        )
        self._draw(layer, self._gain())
        return layer

    def norm(self, units: int, *, images: bool = False) -> nn.Module:
        """Return the norm behind a layer with so many units or channels; the identity for none.

        Raises
        ------
        ConfigError
            The groups of a group norm do not divide the units.
        """
        groups = self.config.groups
        if self.config.norm == "group" and units % groups:
            raise ConfigError(f"model.groups is {groups}, which does not divide {units} units of a layer")
        match self.config.norm:
            case "none":
                return nn.Identity()
            case "batch":
                return (nn.BatchNorm2d if images else nn.BatchNorm1d)(units, device="cpu")
            case "layer":
                return nn.GroupNorm(1, units, device="cpu") if images else nn.LayerNorm(units, device="cpu")
            case "group":
                return nn.GroupNorm(groups, units, device="cpu")

    def gate(self) -> nn.Module:
        """Return the activation function."""
        return _GATES[self.config.gate]()

    def _gain(self) -> float:
        if self.config.init == "torch":
            return 1.0
        return nn.init.calculate_gain(_GAIN_OF[self.config.gate])  # type: ignore[arg-type]

    def _linear(self, inputs: int, outputs: int, gain: float) -> nn.Linear:
        layer: nn.Linear = _empty(nn.Linear, inputs, outputs)
        self._draw(layer, gain)
        return layer

    @torch.no_grad()
    def _draw(self, layer: nn.Linear | nn.Conv2d, gain: float) -> None:
        """Draw a layer's weight; kaiming and torch's law count the inputs of a unit, kernel positions too."""
        weight, generator = layer.weight, self._generator
        inputs = weight[0].numel()
        match self.config.init:
            case "kaiming_normal":
                weight.normal_(0, gain / inputs**0.5, generator=generator)
            case "kaiming_uniform":
                bound = gain * (3 / inputs) ** 0.5
                weight.uniform_(-bound, bound, generator=generator)
            case "xavier_normal":
                nn.init.xavier_normal_(weight, gain, generator=generator)
            case "orthogonal":
                nn.init.orthogonal_(weight, gain, generator=generator)
            case "torch":
                bound = gain / inputs**0.5
                weight.uniform_(-bound, bound, generator=generator)
        weight.mul_(self.config.weight_scale)
        if layer.bias is None:
            return
        if self.config.init == "torch":
            layer.bias.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
        else:
            layer.bias.zero_()


def _empty(kind: Any, *args: Any, **options: Any) -> Any:
    """Return a layer without values: to build it with torch's would advance torch's own generator."""
    return kind(*args, device="meta", **options).to_empty(device="cpu")
