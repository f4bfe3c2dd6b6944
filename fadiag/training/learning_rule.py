"""Convert the network of a run to its learning rule."""

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from fadiag.rules import convert
from fadiag.training.config import Config

__all__ = ["apply_rule"]

_Model = TypeVar("_Model", bound=nn.Module)


def apply_rule(config: Config, model: _Model, layers: Mapping[str, nn.Module]) -> _Model:
    """Convert a network in place to the rule of a configuration, and return it.

    Under "frozen" everything but the last layer of the forward pass is frozen, norms too.

    Parameters
    ----------
    config : Config
    model : nn.Module
    layers : mapping of str to nn.Module
        All layers with weight matrices, in the order of a forward pass.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> net = apply_rule(Config(rule="frozen"), net, dict(net.named_children()))
    >>> [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    ['1.weight', '1.bias']
    """
    if config.rule == "frozen":
        model.requires_grad_(False)
        list(layers.values())[-1].requires_grad_(True)
        return model
    return convert(model, config.rule, config.seeds.feedback)
