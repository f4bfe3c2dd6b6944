"""Build the optimizers of a run, and set their learning rates over time."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.config import Config, OptimizerConfig, RestConfig
from fadiag.training.optimizers.groups import matrix_layers
from fadiag.training.optimizers.learned_feedback import check_decay, learned_feedback
from fadiag.training.optimizers.muon import Muon
from fadiag.training.optimizers.normalized_sgd import NormalizedSGD

__all__ = ["build_optimizers", "rate_factor", "set_rates"]


def build_optimizers(
    config: Config, model: nn.Module, layers: Mapping[str, nn.Module]
) -> tuple[list[torch.optim.Optimizer], list[str]]:
    """Build the optimizers of a run. Each parameter belongs to one of them, a frozen one to none.

    A learned feedback matrix is in the parameter group of its layer's weight.

    Parameters
    ----------
    config : Config
    model : nn.Module
        Converted to its rule.
    layers : mapping of str to nn.Module
        All layers with weight matrices, in the order of a forward pass.

    Returns
    -------
    optimizers : list of torch.optim.Optimizer
        One, or that of the matrices and that of the rest.
    names : list of str
        The layers whose weights Muon or normalized SGD takes.

    Raises
    ------
    ConfigError
        The optimizer would have no layers, or it does not bring a learned feedback matrix to its weight.
    """
    given = config.optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    learned = learned_feedback(model.modules())
    if learned:
        check_decay(config.rule, "optimizer", given)
    if given.name not in ("muon", "normalized_sgd"):
        return [_plain(given.name, parameters, given)], []
    if config.rule == "frozen":
        raise ConfigError(
            f"optimizer.name is {given.name!r}, and rule 'frozen' trains the last layer only; take 'sgd'"
        )
    taken = matrix_layers(given, layers)
    weights = list({id(module.weight): module.weight for module in taken.values()}.values())
    matrices = [*weights, *learned_feedback(taken.values())]
    options = {"momentum": given.momentum, "weight_decay": given.weight_decay}
    optimizer: torch.optim.Optimizer
    if given.name == "muon":
        how = {"orthogonalization": given.orthogonalization, "top_k": given.top_k}
        optimizer = Muon(matrices, given.learning_rate, **options, **how)  # type: ignore[arg-type]
    else:
        optimizer = NormalizedSGD(matrices, given.learning_rate, **options)
    held = {id(matrix) for matrix in matrices}
    rest = [p for p in parameters if id(p) not in held]
    if any(id(matrix) not in held for matrix in learned):
        check_decay(config.rule, "optimizer.rest", given.rest)
    return [optimizer, *([_plain(given.rest.name, rest, given.rest)] if rest else [])], list(taken)


def _plain(
    name: str, parameters: Iterable[nn.Parameter], config: OptimizerConfig | RestConfig
) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if name == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(parameters, rate, betas=(config.momentum, config.beta2), weight_decay=decay)


def rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the factor on all learning rates at a step: linear warm-up, then constant or a cosine to zero.

    Examples
    --------
    >>> config = OptimizerConfig(warmup_steps=2)
    >>> [round(rate_factor(config, step, 6), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set the learning rate of each optimizer to a multiple of the one that it was built with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * optimizer.defaults["lr"]
