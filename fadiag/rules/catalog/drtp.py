"""Define Direct Random Target Projection: each layer receives the targets through a fixed random matrix.

Frenkel, Lefebvre, Bol, "Learning without feedback: fixed random learning signals allow for feedforward
training of deep neural networks", Frontiers in Neuroscience 15:629892, 2021, arXiv 1909.01311.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

import torch
from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules.catalog.direct import DirectLayer
from fadiag.rules.layers.direct import send_credit
from fadiag.rules.rule import Rule

__all__ = ["DRTP", "DRTPLayer", "targets"]


class DRTPLayer(DirectLayer):
    """Send ``scale * (y* F)`` to the layer below, where y* are the targets; see `targets`.

    The output layer learns by the true error of the loss.
    """

    def credited(self, x: Tensor) -> Tensor:
        """Return the input unchanged; backward, it receives the targets times F."""
        if self._state.credit is None:
            if self.is_first and not x.requires_grad:  # data, which needs no credit
                return x
            raise InputError(
                f"layer {self.name!r} learns from the targets, and the pass has none; call the model inside "
                "`with fadiag.rules.targets(model, y):`"
            )
        if len(self._state.credit) != len(x):
            raise InputError(
                f"the targets are for {len(self._state.credit)} samples, and layer {self.name!r} has an "
                f"input of {len(x)}; give targets() the targets of this batch"
            )
        return send_credit(x, self.matrix_of_pass(x), self._state.credit)


@contextmanager
def targets(model: nn.Module, y: Tensor, scale: float | None = None) -> Iterator[None]:
    """Give the targets of a batch to the layers under the rule "drtp", for the forward passes made inside.

    The error of layer l is ``scale * (y* F_l) * phi'(z_l)``. Like all of autograd's errors it belongs to the
    mean loss, so the default scale is -1/N. The authors' code has the other sign and no 1/N: ``scale=1``.
    Whatever else scales the loss must be in ``scale`` too: a GradScaler's factor, or the number of batches
    whose gradients are accumulated.

    Parameters
    ----------
    model : nn.Module
        A model converted with ``rule="drtp"``, or a wrapper around one.
    y : Tensor, shape (N,) or (N, outputs)
        Class indices, or targets such as one-hot or smoothed labels.
    scale : float, optional
        Factor of the targets; by default -1/N.

    Raises
    ------
    InputError
        The model has no layer under "drtp", or the targets or the scale do not fit.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> _ = torch.manual_seed(0)
    >>> x, y = torch.randn(8, 4), torch.arange(8) % 2
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model = convert(model, "drtp", example=x)
    >>> with targets(model, y):
    ...     loss = nn.functional.cross_entropy(model(x), y)
    >>> loss.backward()
    """
    layers = [module for module in model.modules() if isinstance(module, DRTPLayer)]
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no layer under the rule 'drtp', so targets have no use; convert it "
            "with rule='drtp'"
        )
    if scale is not None and not isfinite(scale):
        raise InputError(f"scale is {scale}; give a finite number, or leave it out for -1/N")
    credit = _one_hot(y, layers[0].feedback) * (-1 / max(1, len(y)) if scale is None else scale)
    states = {id(layer._state): layer._state for layer in layers}.values()
    before = [state.credit for state in states]
    for state in states:
        state.credit = credit
    try:
        yield
    finally:
        for state, previous in zip(states, before, strict=True):
            state.credit = previous


def _one_hot(y: Tensor, feedback: Tensor) -> Tensor:
    """Return targets as (N, outputs), with the dtype and device of F."""
    outputs = feedback.shape[0]
    if y.dim() == 2 and y.shape[1] == outputs:
        return y.to(feedback)
    if y.dim() != 1 or y.is_floating_point():
        raise InputError(
            f"the targets are {y.dtype} of shape {tuple(y.shape)}; give class indices (N,), or targets "
            f"(N, {outputs})"
        )
    known = not (torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(y))
    if known and len(y) and (int(y.min()) < 0 or int(y.max()) >= outputs):
        raise InputError(
            f"the targets are class indices from {int(y.min())} to {int(y.max())}, and the network has "
            f"{outputs} outputs; give indices from 0 to {outputs - 1}"
        )
    classes = torch.arange(outputs, device=feedback.device)
    return (y.to(feedback.device)[:, None] == classes).to(feedback.dtype)


DRTP = Rule("drtp", DRTPLayer, needs_example=True)
