"""Find the primary layer of a network before it is trained."""

import torch
from torch import nn

from fadiag.errors import ConfigError
from fadiag.studies.declared.study import Study
from fadiag.studies.runs.data import data_facts
from fadiag.training import Config
from fadiag.training.layer_order import layers_in_order
from fadiag.training.models import build_model
from fadiag.training.tables import near_names

__all__ = ["check_layer", "layer_names"]


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


def check_layer(study: Study) -> None:
    """Raise ConfigError if a network of the primary contrast does not have the primary layer."""
    layer = study.primary.layer
    if layer in ("first", "last_hidden"):
        return
    for name in study.primary.contrast:
        names = layer_names(study.conditions[name].config)
        if layer not in names:
            near = near_names(layer, "", ["first", "last_hidden", *names])
            raise ConfigError(f"study {study.name!r} has the primary layer {layer!r}; {near}")
