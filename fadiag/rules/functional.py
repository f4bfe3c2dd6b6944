"""The backward pass of Feedback Alignment, as autograd functions.

The forward pass is torch's own. In the backward pass a matrix ``feedback`` stands where the transposed weight
would; nothing else changes, so the weight's gradient is the outer product of what the layer received and its
input. Both use ``setup_context`` and a generated vmap rule, which is what lets them work under
``torch.compile`` with ``fullgraph=True``, ``torch.func.grad`` and ``vmap``.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, linear

__all__ = ["feedback_conv", "feedback_linear"]

#: Autograd gives a gradient, or None where none is asked for.
_Gradient = Tensor | None


class _Linear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, feedback = inputs
        ctx.save_for_backward(x, feedback)
        ctx.dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[_Gradient, _Gradient, _Gradient, None]:
        (error,) = gradients
        x, feedback = ctx.saved_tensors
        input_dtype, weight_dtype, bias_dtype = ctx.dtypes
        rows = error.reshape(-1, error.shape[-1])
        to_input = to_weight = to_bias = None
        # Under autocast the error is in half precision and what was saved is not; torch's own backward
        # multiplies in the error's dtype too.
        if ctx.needs_input_grad[0]:
            to_input = (error @ feedback.to(error.dtype)).to(input_dtype)
        if ctx.needs_input_grad[1]:
            columns = x.reshape(-1, x.shape[-1]).to(error.dtype)
            to_weight = (rows.t() @ columns).to(weight_dtype)
        if bias_dtype is not None and ctx.needs_input_grad[2]:
            to_bias = rows.sum(0).to(bias_dtype)
        return to_input, to_weight, to_bias, None


class _Conv(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take positions only
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        # Not torch.convolution: autocast does not know it on the CPU.
        convolve = conv1d if len(stride) == 1 else conv2d
        return convolve(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, feedback, *geometry = inputs
        ctx.save_for_backward(x, feedback)
        ctx.dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.geometry = geometry

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[_Gradient, ...]:
        (error,) = gradients
        x, feedback = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        input_dtype, weight_dtype, bias_dtype = ctx.dtypes
        needed = [*ctx.needs_input_grad[:2], bias_dtype is not None and ctx.needs_input_grad[2]]
        # torch's own kernel for backpropagation, given the feedback in the weight's place: it reads that
        # argument for the gradient to the input only, and takes just the shape from it for the weight's.
        to_input, to_weight, to_bias = torch.ops.aten.convolution_backward(
            error,
            x.to(error.dtype),
            feedback.to(error.dtype),
            [feedback.shape[0]],
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            groups,
            needed,
        )
        return (
            to_input.to(input_dtype) if needed[0] else None,
            to_weight.to(weight_dtype) if needed[1] else None,
            to_bias.to(bias_dtype) if needed[2] else None,
            *[None] * 5,
        )


def feedback_linear(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
    r"""Affine map whose backward pass carries the error through ``feedback`` instead of ``weight``.

    Forward ``a = x W^T + b``; backward ``dx = delta B``, ``dW = delta^T x``, ``db = sum delta``.

    Parameters
    ----------
    x : Tensor, shape (..., in)
    weight, feedback : Tensor, shape (out, in)
    bias : Tensor, shape (out,), or None

    Returns
    -------
    Tensor, shape (..., out)

    References
    ----------
    Lillicrap, Cownden, Tweed, Akerman, "Random synaptic feedback weights support error backpropagation for
    deep learning", Nature Communications 7:13276, 2016.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> W, B = torch.ones(3, 2), torch.full((3, 2), 10.0)
    >>> feedback_linear(x, W, None, B).sum().backward()
    >>> x.grad
    tensor([[30., 30.]])
    """
    return cast("Tensor", _Linear.apply(x, weight, bias, feedback))  # type: ignore[no-untyped-call]


def feedback_conv(  # noqa: PLR0917 - torch.conv2d's order
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Convolution (1-D or 2-D, batched) whose backward pass carries the error through ``feedback``.

    The gradient to the input is that of a convolution with the kernel ``feedback``; those to weight and bias
    are torch's.

    Parameters
    ----------
    x : Tensor, shape (sample, channel, *space)
    weight, feedback : Tensor, shape (out, in / groups, *kernel)
    bias : Tensor, shape (out,), or None
    stride, padding, dilation : tuple of int, one for each dimension of space
    groups : int

    Returns
    -------
    Tensor, shape (sample, out, *space)
    """
    arguments = (x, weight, bias, feedback, stride, padding, dilation, groups)
    return cast("Tensor", _Conv.apply(*arguments))  # type: ignore[no-untyped-call]
