"""Define linear layers whose backward pass uses a feedback matrix in place of the weight."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from fadiag.rules.layers.autograd import FeedbackFunction, as_dtype
from fadiag.rules.rule import FeedbackLayer

__all__ = ["FeedbackLinear", "FeedbackTransposedLinear", "feedback_linear"]

#: None if the gradient is not needed.
_Gradient = Tensor | None


class _Linear(FeedbackFunction):
    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor | None, learned: bool
    ) -> Tensor:
        output = linear(x, weight, bias)
        # With more axes than two torch returns a view, which an in-place gate behind it could not change.
        return output if x.dim() == 2 else torch.ops.aten._unsafe_view(output, output.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, feedback, learned = inputs
        ctx.save_for_backward(x, feedback)
        ctx.dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.learned = learned

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[_Gradient, ...]:
        (error,) = gradients
        x, feedback = ctx.saved_tensors
        input_dtype, weight_dtype, bias_dtype = ctx.dtypes
        needed = ctx.needs_input_grad
        rows = error if error.dim() == 2 else error.reshape(-1, error.shape[-1])
        to_input = to_weight = to_bias = to_feedback = None
        # Under autocast the error is in half precision and the saved tensors are not. Like torch's own
        # backward pass, multiply in the error's dtype.
        if needed[0] and feedback is not None:
            to_input = as_dtype(error @ as_dtype(feedback, error.dtype), input_dtype)
        if needed[1]:
            columns = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
            to_weight = as_dtype(rows.t() @ as_dtype(columns, error.dtype), weight_dtype)
            if ctx.learned and needed[3]:
                # Copy it, because two parameters must not share a gradient that clipping changes in place.
                to_feedback = to_weight.clone()
        if bias_dtype is not None and needed[2]:
            to_bias = as_dtype(rows.sum(0), bias_dtype)
        return to_input, to_weight, to_bias, to_feedback, None


def feedback_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor | None, learned: bool = False
) -> Tensor:
    """Apply a linear map whose backward pass uses ``feedback`` in place of ``weight``.

    Forward ``a = x W^T + b``; backward ``dx = delta B``, ``dW = delta^T x``, ``db = sum delta``.

    Parameters
    ----------
    x : Tensor, shape (..., in)
    weight, feedback : Tensor, shape (out, in)
        With ``feedback=None``, ``x`` receives no gradient.
    bias : Tensor, shape (out,), or None
    learned : bool
        Whether ``feedback`` receives the weight's gradient. Otherwise it receives none.

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
    return cast("Tensor", _Linear.apply(x, weight, bias, feedback, learned))


torch.compiler.allow_in_graph(feedback_linear)  # type: ignore[no-untyped-call]


class FeedbackLinear(FeedbackLayer, nn.Linear):
    """``nn.Linear`` under Feedback Alignment. Made by `fadiag.convert`.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> layer = convert(nn.Linear(4, 3))
    >>> isinstance(layer, FeedbackLinear), tuple(layer.feedback.shape)
    (True, (3, 4))
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """Map (..., in) to (..., out)."""
        return feedback_linear(input, self.weight, self.bias, self.feedback_of_pass(), self.learns_in_pass())


class FeedbackTransposedLinear(FeedbackLayer):
    """transformers' ``Conv1D`` under Feedback Alignment: its weight and feedback are (in, out).

    Made by `fadiag.convert`. It is not a subclass of ``Conv1D``, because fadiag does not import transformers.

    Examples
    --------
    >>> import torch
    >>> layer = FeedbackTransposedLinear()
    >>> layer.weight, layer.bias = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.zeros(3))
    >>> layer.attach_feedback(torch.ones(4, 3))
    >>> layer(torch.ones(1, 4)).tolist()
    [[4.0, 4.0, 4.0]]
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        feedback = self.feedback_of_pass()
        turned = None if feedback is None else feedback.t()
        return feedback_linear(x, self.weight.t(), self.bias, turned, self.learns_in_pass())

    def extra_repr(self) -> str:
        """Return the numbers of outputs and inputs, with the rule."""
        return f"nf={self.weight.shape[1]}, nx={self.weight.shape[0]}, rule={self.rule!r}"
