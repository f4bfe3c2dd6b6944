"""Find the order in which a network calls its layers, and so the first and the last one."""

from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.passes.isolation import TrainingFlags, isolated
from fadiag.rules.computed_weights import has_matrix
from fadiag.rules.left_out import WITHOUT_FEEDBACK

__all__ = ["layers_in_order"]


@torch.no_grad()
def layers_in_order(model: nn.Module, x: Tensor) -> dict[str, nn.Module]:
    """Return the layers with a weight matrix or kernels by name, in the order of their first forward calls.

    A weight may be computed, as by weight norm. Runs the model once in eval mode, as a probe does: it leaves
    no trace.

    Parameters
    ----------
    model : nn.Module
    x : Tensor
        Any batch that the model takes.

    Examples
    --------
    >>> model = nn.ModuleDict({"last": nn.Linear(3, 2), "first": nn.Linear(4, 3)})
    >>> model.forward = lambda x: model["last"](model["first"](x))
    >>> list(layers_in_order(model, torch.ones(1, 4)))
    ['first', 'last']
    """
    order: dict[str, nn.Module] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def note(*_: Any) -> None:
            order.setdefault(name, module)

        handles.append(module.register_forward_pre_hook(note))

    for name, module in model.named_modules():
        if has_matrix(module) and not isinstance(module, WITHOUT_FEEDBACK):
            watch(name, module)
    try:
        with isolated(model, TrainingFlags(model), mode="eval", seed=0):
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return order
