"""The optimizers of a run and their learning rates over time."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from fadiag.errors import ConfigError
from fadiag.training.config import Config
from fadiag.training.model import hidden_layers

__all__ = ["build_optimizers", "build_schedules"]


def build_optimizers(config: Config, model: nn.Sequential) -> list[torch.optim.Optimizer]:
    """Build the optimizers of a run. Each parameter belongs to one of them, a frozen one to none.

    SGD takes everything. Muon takes the weights between hidden layers; the first and the last layer, the
    norms and all biases go to Adam, as Muon's author advises (https://kellerjordan.github.io/posts/muon/).
    The frozen control trains the output layer only.
    """
    given = config.optimizer
    hidden = hidden_layers(model)
    if config.freeze_hidden:
        trained = {id(p) for p in model.get_submodule("out").parameters()}
    else:
        trained = {id(p) for p in model.parameters()}
    if given.name == "sgd":
        parameters = [p for p in model.parameters() if id(p) in trained]
        return [
            torch.optim.SGD(
                parameters, given.learning_rate, momentum=given.momentum, weight_decay=given.weight_decay
            )
        ]
    inner = [weight for name in hidden[1:] if id(weight := model.get_parameter(f"{name}.weight")) in trained]
    if not inner:
        raise ConfigError(
            "optimizer.name is 'muon', which takes the weights between hidden layers, and none is trained; "
            "give at least two in model.hidden, do not freeze them, or take 'sgd'"
        )
    taken = {id(weight) for weight in inner}
    rest = [p for p in model.parameters() if id(p) in trained and id(p) not in taken]
    muon = torch.optim.Muon(
        inner,
        given.learning_rate,
        momentum=given.momentum,
        weight_decay=given.weight_decay,
        adjust_lr_fn="original",
    )
    return [muon, torch.optim.Adam(rest, given.adam_learning_rate)]


def build_schedules(config: Config, optimizers: list[torch.optim.Optimizer], steps: int) -> list[LRScheduler]:
    """Build each optimizer's schedule: constant, or cosine from the full rate to zero at ``steps``."""
    if config.optimizer.schedule == "cosine":
        return [CosineAnnealingLR(optimizer, T_max=steps) for optimizer in optimizers]
    return [LambdaLR(optimizer, lambda step: 1.0) for optimizer in optimizers]
