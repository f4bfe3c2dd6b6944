"""Test your own adapter on a module before you record with it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.checks.adapter_check import check_effect, check_exact_gradient
from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.adapter_tensors import check_tensors
from fadiag.capture.layers.selection import choose_layers
from fadiag.errors import InputError

__all__ = ["check_adapter"]


def check_adapter(adapter: LayerAdapter, module: nn.Module, inputs: Tensor | Sequence[Any]) -> None:
    """Check everything that a recorder requires of an adapter, and raise if the adapter is wrong.

    The adapter must take the module. Weight, feedback and bias must be tensors of matching shapes, and
    ``redraw`` must return a matrix of the weight's shape. ``using`` must change the gradient at the module's
    input, and only inside the context. With the weight as its matrix, it must give the gradient of
    backpropagation.

    Parameters
    ----------
    adapter : LayerAdapter
    module : nn.Module
    inputs : Tensor or sequence
        The arguments of the module.

    Raises
    ------
    InputError
        The adapter does not take the module, or the shape of a tensor does not match.
    CaptureError
        ``using`` has no effect, a wrong effect, or an effect that remains after the context.

    Examples
    --------
    >>> import torch
    >>> from contextlib import contextmanager
    >>> from fadiag import LayerAdapter, convert
    >>> layer = convert(torch.nn.Sequential(torch.nn.Linear(4, 3)))[0]
    >>> @contextmanager
    ... def using(module, matrix):
    ...     own, module.B = module.feedback, matrix  # a mistake: the attribute is called feedback
    ...     yield
    ...     module.feedback = own
    >>> wrong = LayerAdapter((type(layer),), lambda m: m.weight, lambda m: m.feedback, "layerwise", using)
    >>> check_adapter(wrong, layer, torch.ones(2, 4))
    Traceback (most recent call last):
        ...
    fadiag.errors.CaptureError: the module is a FeedbackLinear whose adapter's using(module, matrix) has \
no effect: the gradient at the module's input is the same with any matrix; let it put the matrix where the \
module's backward pass reads it
    """
    kind = type(module).__name__
    if not adapter.takes(module):
        raise InputError(f"the adapter does not take a {kind}; put its class into types")
    check_tensors(adapter, module, "the module")
    choose_layers(module, (adapter,), [""])
    if adapter.feedback_kind == "layerwise":
        drawn = adapter.redrawn(module, torch.Generator().manual_seed(0))
        if drawn.shape != adapter.weight_of(module).shape:
            raise InputError(
                f"the module is a {kind} whose adapter's redraw gives {tuple(drawn.shape)} where the weight "
                f"is {tuple(adapter.weight_of(module).shape)}; let it draw a matrix of the weight's shape"
            )
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = [x.detach().requires_grad_() if _is_float(x) else x for x in given]
    if not any(map(_is_float, given)):
        raise InputError("inputs hold no float tensor, so the gradient at the module's input cannot be tried")
    if adapter.feedback_kind in ("layerwise", "direct"):
        check_effect(adapter, module, given, {}, what="the module")
    if adapter.feedback_kind in ("layerwise", "exact"):
        check_exact_gradient(adapter, module, given, what="the module")


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
