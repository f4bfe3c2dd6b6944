"""Linear maps and convolutions whose backward pass uses a feedback matrix in place of the weight.

The forward pass is torch's own. In the backward pass ``feedback`` takes the place of the weight, and nothing
else changes: the weight's gradient is still the product of the layer's error and its input.

The functions work under ``torch.compile(fullgraph=True)``, under ``torch.func`` and under both at once.
``setup_context`` and the generated vmap rule serve ``torch.func``. ``allow_in_graph`` makes the compiler's
first stage (dynamo) leave the functions whole: where it looks inside, ``ctx.needs_input_grad`` is wrong under
``torch.func.grad``, and weight gradients get lost without a word. The next stage runs them as autograd does.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, linear

__all__ = ["feedback_conv", "feedback_linear"]

#: None where nobody asks for the gradient.
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
        # Under autocast the error is in half precision, the saved tensors are not. torch's own backward pass
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
        # torch's own kernel for backpropagation, with the feedback as its weight. It uses the values of that
        # argument for the input's gradient only; the weight's gradient needs no more than its shape.
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
    """Apply a linear map whose backward pass uses ``feedback`` for ``weight``.

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
    """Apply a convolution (1-D or 2-D, batched) whose backward pass uses ``feedback`` for ``weight``.

    The input's gradient is that of a convolution with the kernel ``feedback``. Weight and bias have torch's
    own gradients.

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

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(1, 1, 3, requires_grad=True)
    >>> W, B = torch.ones(1, 1, 1), torch.full((1, 1, 1), 10.0)
    >>> feedback_conv(x, W, None, B, (1,), (0,), (1,), 1).sum().backward()
    >>> x.grad
    tensor([[[10., 10., 10.]]])
    """
    arguments = (x, weight, bias, feedback, stride, padding, dilation, groups)
    return cast("Tensor", _Conv.apply(*arguments))  # type: ignore[no-untyped-call]


torch.compiler.allow_in_graph(feedback_linear)  # type: ignore[no-untyped-call]
torch.compiler.allow_in_graph(feedback_conv)  # type: ignore[no-untyped-call]
