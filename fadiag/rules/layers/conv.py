"""Define convolutions whose backward pass uses a feedback kernel in place of the weight."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, pad

from fadiag.rules.layers.autograd import FeedbackFunction, as_dtype
from fadiag.rules.rule import FeedbackLayer

__all__ = ["FeedbackConv1d", "FeedbackConv2d", "feedback_conv"]


class _Conv(FeedbackFunction):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take positions only
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor | None,
        learned: bool,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        # Not torch.convolution, which autocast on the CPU does not support.
        convolve = conv1d if len(stride) == 1 else conv2d
        return convolve(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, feedback, learned, *geometry = inputs
        ctx.save_for_backward(x, weight if feedback is None else feedback)
        ctx.sends = feedback is not None
        ctx.dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.learned = learned
        ctx.geometry = geometry

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = gradients
        x, feedback = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        input_dtype, weight_dtype, bias_dtype = ctx.dtypes
        to_x, to_w, to_b = ctx.needs_input_grad[:3]
        needed = [to_x and ctx.sends, to_w, bias_dtype is not None and to_b]
        # Call torch's backpropagation kernel with the feedback as its weight. It uses the values of this
        # argument only for the input's gradient; for the weight's gradient it needs only the shape.
        to_input, to_weight, to_bias = torch.ops.aten.convolution_backward(
            error,
            as_dtype(x, error.dtype),
            as_dtype(feedback, error.dtype),
            [feedback.shape[0]],
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            groups,
            needed,
        )
        learns = ctx.learned and needed[1] and ctx.needs_input_grad[3]
        return (
            as_dtype(to_input, input_dtype) if needed[0] else None,
            as_dtype(to_weight, weight_dtype) if needed[1] else None,
            as_dtype(to_bias, bias_dtype) if needed[2] else None,
            to_weight.to(weight_dtype, copy=True) if learns else None,  # a copy, as in a linear layer
            *[None] * 5,
        )


def feedback_conv(  # noqa: PLR0917 - torch.conv2d's order
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    learned: bool = False,
) -> Tensor:
    """Apply a batched 1-D or 2-D convolution whose backward pass uses ``feedback`` in place of ``weight``.

    The input's gradient is that of a convolution with the kernel ``feedback``. Weight and bias have torch's
    own gradients.

    Parameters
    ----------
    x : Tensor, shape (sample, channel, *space)
    weight, feedback : Tensor, shape (out, in / groups, *kernel)
        With ``feedback=None``, ``x`` receives no gradient.
    bias : Tensor, shape (out,), or None
    stride, padding, dilation : tuple of int
        One number for each dimension of space.
    groups : int
    learned : bool
        Whether ``feedback`` receives the weight's gradient. Otherwise it receives none.

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
    return cast("Tensor", _Conv.apply(x, weight, bias, feedback, learned, stride, padding, dilation, groups))


torch.compiler.allow_in_graph(feedback_conv)  # type: ignore[no-untyped-call]


class _FeedbackConv(FeedbackLayer):
    """Share the code of convolutions of one and two dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    _reversed_padding_repeated_twice: list[int]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        # torch's layers call this from forward. The kernel cannot pad in modes other than zeros, or 'same'
        # with an even kernel size. Such padding is a separate step, with its exact gradient.
        x, padding = input, self.padding
        if isinstance(padding, str) or self.padding_mode != "zeros":
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = pad(x, self._reversed_padding_repeated_twice, mode=mode)
            padding = (0,) * len(self.stride)
        batched = x.dim() == len(self.stride) + 2
        output = feedback_conv(
            x if batched else x.unsqueeze(0),
            weight,
            bias,
            self.feedback_of_pass(),
            self.stride,
            padding,
            self.dilation,
            self.groups,
            self.learns_in_pass(),
        )
        return output if batched else output.squeeze(0)


class FeedbackConv1d(_FeedbackConv, nn.Conv1d):
    """``nn.Conv1d`` under Feedback Alignment. Made by `fadiag.convert`.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> layer = convert(nn.Conv1d(2, 3, 5))
    >>> isinstance(layer, FeedbackConv1d), tuple(layer.feedback.shape)
    (True, (3, 2, 5))
    """


class FeedbackConv2d(_FeedbackConv, nn.Conv2d):
    """``nn.Conv2d`` under Feedback Alignment. Made by `fadiag.convert`.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> layer = convert(nn.Conv2d(2, 3, 5))
    >>> isinstance(layer, FeedbackConv2d), tuple(layer.feedback.shape)
    (True, (3, 2, 5, 5))
    """
