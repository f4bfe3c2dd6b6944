"""Update a learned feedback matrix B as its layer's weight, so that weight decay makes them equal."""

from collections.abc import Iterable

from torch import nn

from fadiag.errors import ConfigError
from fadiag.rules import FeedbackLayer
from fadiag.training.config import OptimizerConfig, RestConfig

__all__ = ["check_decay", "clip_gradients", "learned_feedback"]


def learned_feedback(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the learned feedback matrices of modules, each once. Layers that share a weight share one.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> learned_feedback(convert(nn.Linear(2, 3), "fa").modules())
    []
    >>> [tuple(matrix.shape) for matrix in learned_feedback(convert(nn.Linear(2, 3), "kp").modules())]
    [(3, 2)]
    """
    matrices: dict[int, nn.Parameter] = {}
    for module in modules:
        if isinstance(module, FeedbackLayer) and module.feedback_is_learned:
            assert isinstance(module.feedback, nn.Parameter)
            matrices[id(module.feedback)] = module.feedback
    return list(matrices.values())


def check_decay(rule: str, table: str, config: OptimizerConfig | RestConfig) -> None:
    """Refuse an optimizer under which a learned B does not approach its weight.

    Without weight decay, B and the weight stay as far apart as they began. Adam scales the decay of each
    entry by that entry's gradients, so no law says that B and the weight meet.

    Parameters
    ----------
    rule : str
    table : str
        The name of the table in the configuration, for the error.
    config : OptimizerConfig or RestConfig
        The table of an optimizer that updates a learned B.

    Examples
    --------
    >>> check_decay("kp", "optimizer", OptimizerConfig())
    Traceback (most recent call last):
    fadiag.errors.ConfigError: rule is 'kp', and with optimizer.weight_decay 0 ... set it above 0, as in 0.01
    """
    if config.name == "adam":
        raise ConfigError(
            f"rule is {rule!r}, and {table}.name is 'adam', whose coupled decay does not bring the learned "
            f"feedback to the weight; take 'adamw', with {table}.weight_decay above 0"
        )
    if not config.weight_decay:
        raise ConfigError(
            f"rule is {rule!r}, and with {table}.weight_decay 0 the learned feedback never approaches the "
            "weight; set it above 0, as in 0.01"
        )


def clip_gradients(
    parameters: Iterable[nn.Parameter], feedback: Iterable[nn.Parameter], largest: float
) -> None:
    """Scale all gradients by one factor, so that those outside ``feedback`` have at most the largest norm.

    A learned B has a copy of its weight's gradient. The norm does not count the copy, so the weights move as
    under a rule whose B is fixed.

    Examples
    --------
    >>> import torch
    >>> weight, b = nn.Parameter(torch.zeros(1, 2)), nn.Parameter(torch.ones(1, 2))
    >>> weight.grad, b.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0]])
    >>> clip_gradients([weight, b], [b], 1.0)
    >>> weight.grad, b.grad
    (tensor([[0.6000, 0.8000]]), tensor([[0.6000, 0.8000]]))
    """
    parameters, copies = list(parameters), {id(matrix) for matrix in feedback}
    counted = [p.grad for p in parameters if p.grad is not None and id(p) not in copies]
    nn.utils.clip_grads_with_norm_(parameters, largest, nn.utils.get_total_norm(counted))
