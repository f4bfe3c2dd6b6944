"""Try an adapter of your own on a module, before a recorder relies on it."""

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
    """Try all that a recorder asks of an adapter; nothing is returned where it is right.

    The adapter takes the module. Weight, feedback and bias are tensors of fitting shapes, and ``redraw``
    gives one like the feedback. ``using`` changes the gradient at the module's input, makes it that of
    backpropagation where it is given the weight, and leaves nothing behind.

    Parameters
    ----------
    adapter : LayerAdapter
    module : nn.Module
    inputs : Tensor or sequence
        What the module is called with.

    Raises
    ------
    InputError
        The adapter does not take the module, or a tensor does not fit.
    CaptureError
        ``using`` has no effect, one that stays, or the wrong one.

    Examples
    --------
    >>> import torch
    >>> from contextlib import contextmanager
    >>> from fadiag import LayerAdapter, convert
    >>> layer = convert(torch.nn.Sequential(torch.nn.Linear(4, 3)))[0]
    >>> @contextmanager
    ... def using(module, matrix):
    ...     kept, module.B = module.feedback, matrix  # a slip: the module calls it feedback
    ...     yield
    ...     module.feedback = kept
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
