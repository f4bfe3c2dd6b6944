"""Send the error of a network's outputs, or its targets, through a fixed matrix to the input of a layer.

The input of such a layer goes through a function that returns it unchanged. In the backward pass this
function sends its own credit down. The error that the layer itself computes for its input is not used.

For direct feedback alignment the function has a second result, the tap: zeros of the shape of the network's
outputs. The output layer passes its result through `join_taps`, which hands the error of the outputs to every
tap. So the credit travels along autograd's graph, and no tensor is stored from one pass to another.
"""

from typing import Any, cast

import torch
from torch import Tensor

from fadiag.errors import InputError
from fadiag.rules.layers.autograd import FeedbackFunction, as_dtype

__all__ = ["join_taps", "send_credit", "tap_input"]


class _Tap(FeedbackFunction):
    @staticmethod
    def forward(x: Tensor, feedback: Tensor, layer: str) -> tuple[Tensor, Tensor]:
        return x.view_as(x), x.new_zeros(x.shape[0], feedback.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, feedback, layer = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(feedback)
        ctx.input_dtype, ctx.shape, ctx.layer = x.dtype, x.shape, layer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _, error = gradients
        if not ctx.needs_input_grad[0]:
            return None, None, None
        if error is None:
            raise InputError(
                f"layer {ctx.layer!r} gets no error from the network's outputs; call the whole model, "
                "compute the loss from its outputs, and checkpoint with use_reentrant=False"
            )
        (feedback,) = ctx.saved_tensors
        return _product(error, feedback, ctx.shape, ctx.input_dtype), None, None


class _Join(FeedbackFunction):
    @staticmethod
    def forward(outputs: Tensor, *taps: Tensor) -> Tensor:
        return outputs.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dtypes = [tensor.dtype for tensor in inputs]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (error,) = gradients
        return tuple(as_dtype(error, dtype) for dtype in ctx.dtypes)


class _Send(FeedbackFunction):
    @staticmethod
    def forward(x: Tensor, feedback: Tensor, credit: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, feedback, credit = inputs
        ctx.save_for_backward(feedback, credit)
        ctx.input_dtype, ctx.shape = x.dtype, x.shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        feedback, credit = ctx.saved_tensors
        needed = ctx.needs_input_grad[0]
        return _product(credit, feedback, ctx.shape, ctx.input_dtype) if needed else None, None, None


def _product(credit: Tensor, feedback: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    sent = credit @ as_dtype(feedback.flatten(1), credit.dtype)
    return as_dtype(sent.reshape(shape), dtype)


def tap_input(x: Tensor, feedback: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return an input unchanged, with its tap; backward, the input receives the tap's error times F.

    Parameters
    ----------
    x : Tensor, shape (sample, *)
    feedback : Tensor, shape (outputs, *)
        F; its axes after the first are those of ``x``.
    layer : str
        The layer's name in the error that is raised if no error reaches the tap.

    Returns
    -------
    Tensor, shape (sample, *)
    Tensor, shape (sample, outputs)
        The tap, for `join_taps`.

    Examples
    --------
    >>> x, F = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 4.0]])
    >>> h, tap = tap_input(x, F, "fc2")
    >>> outputs = join_taps(h.detach() @ torch.ones(2, 1), [tap])
    >>> (10 * outputs).sum().backward()
    >>> x.grad
    tensor([[30., 40.]])
    """
    return cast("tuple[Tensor, Tensor]", _Tap.apply(x, feedback, layer))


def join_taps(outputs: Tensor, taps: list[Tensor]) -> Tensor:
    """Return the network's outputs unchanged; backward, each tap receives their error too."""
    return cast("Tensor", _Join.apply(outputs, *taps))


def send_credit(x: Tensor, feedback: Tensor, credit: Tensor) -> Tensor:
    """Return an input unchanged; backward, it receives ``credit`` times F.

    Examples
    --------
    >>> x, F = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 4.0]])
    >>> send_credit(x, F, torch.tensor([[-1.0]])).sum().backward()
    >>> x.grad
    tensor([[-3., -4.]])
    """
    return cast("Tensor", _Send.apply(x, feedback, credit))


for _function in (tap_input, join_taps, send_credit):
    torch.compiler.allow_in_graph(_function)  # type: ignore[no-untyped-call]
