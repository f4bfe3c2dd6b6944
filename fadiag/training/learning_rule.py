"""Convert the network of a run to its learning rule, and draw the B that Feedback Alignment would use."""

from collections.abc import Mapping
from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn

from fadiag.rules import FeedbackLayer, convert
from fadiag.training.config import Config

__all__ = ["apply_rule", "fa_feedback"]

_Model = TypeVar("_Model", bound=nn.Module)


def apply_rule(config: Config, model: _Model, layers: Mapping[str, nn.Module], example: Tensor) -> _Model:
    """Convert a network in place to the rule of a configuration, and return it.

    Under "frozen" everything but the last layer of the forward pass is frozen, norms too.

    Parameters
    ----------
    config : Config
    model : nn.Module
    layers : mapping of str to nn.Module
        All layers with weight matrices, in the order of a forward pass.
    example : Tensor
        Some inputs, for rules that depend on the shapes of signals.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> net = apply_rule(Config(rule="frozen"), net, dict(net.named_children()), torch.ones(2, 4))
    >>> [name for name, parameter in net.named_parameters() if parameter.requires_grad]
    ['1.weight', '1.bias']
    """
    if config.rule == "frozen":
        model.requires_grad_(False)
        list(layers.values())[-1].requires_grad_(True)
        return model
    return _converted(config, model, config.rule, example)


def fa_feedback(config: Config, model: nn.Module) -> dict[str, Tensor]:
    """Return the B of each layer that a network would have under Feedback Alignment with this configuration.

    Parameters
    ----------
    config : Config
    model : nn.Module
        Not yet converted, and with its first weights. It is not changed.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> {name: tuple(B.shape) for name, B in fa_feedback(Config(rule="bp"), net).items()}
    {'0': (3, 4), '1': (2, 3)}
    """
    twin = _converted(config, deepcopy(model), "fa", None)
    return {name: layer.feedback for name, layer in twin.named_modules() if isinstance(layer, FeedbackLayer)}


def _converted(config: Config, model: _Model, rule: str, example: Tensor | None) -> _Model:
    given = config.feedback
    scale = 1.0 if given.scale is None else given.scale / config.model.weight_scale
    return convert(model, rule, config.seeds.feedback, feedback=given.law, scale=scale, example=example)
