"""Name the layers of a network before it is trained."""

import torch
from torch import nn

from fadiag.studies.runs.data import data_facts
from fadiag.training import Config
from fadiag.training.layer_order import layers_in_order
from fadiag.training.models import build_model

__all__ = ["layer_names"]


def layer_names(config: Config) -> list[str]:
    """Return the layers of a configuration's network in the order of a forward pass.

    Examples
    --------
    >>> layer_names(Config())
    ['fc1', 'fc2', 'fc3', 'out']
    """
    facts = data_facts(config.data)
    model: nn.Module = build_model(config.model, facts.shape, facts.classes, config.seeds.init)
    return list(layers_in_order(model, torch.zeros(1, *facts.shape)))
