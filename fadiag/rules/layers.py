"""Layers with a fixed feedback matrix in their backward pass.

Each is torch's layer with one buffer more, so that ``convert`` can turn the one into the other by changing a
module's class: its parameters, hooks and references stay.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from fadiag.rules.functional import feedback_conv, feedback_linear

__all__ = ["FeedbackConv1d", "FeedbackConv2d", "FeedbackLayer", "FeedbackLinear"]


class FeedbackLayer(nn.Module):
    """What the layers with a feedback matrix have in common.

    Attributes
    ----------
    feedback : Tensor
        Takes the weight's place in the backward pass, in the weight's shape. A persistent buffer.
    rule : str
        The name that ``convert`` knows the rule by.
    feedback_is_fixed : bool
        Whether the feedback stays the same for a whole run.
    """

    rule: ClassVar[str] = "fa"
    feedback_is_fixed: ClassVar[bool] = True
    feedback: Tensor

    def attach_feedback(self, matrix: Tensor) -> None:
        """Make ``matrix`` this layer's feedback."""
        self.register_buffer("feedback", matrix)

    def feedback_of_pass(self) -> Tensor:
        """Return the matrix that the backward pass of the forward pass now running will use."""
        return self.feedback

    @contextmanager
    def using_feedback(self, matrix: Tensor) -> Iterator[None]:
        """Use ``matrix`` in the backward pass of every forward pass made inside.

        The true weight gives backpropagation.
        """
        kept = self.feedback
        self.feedback = matrix
        try:
            yield
        finally:
            self.feedback = kept

    def extra_repr(self) -> str:
        """Return torch's own line, with the rule."""
        return f"{super().extra_repr()}, rule={self.rule!r}"


class FeedbackLinear(FeedbackLayer, nn.Linear):
    """``nn.Linear`` under Feedback Alignment. Made by `fadiag.convert`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """Map (..., in) to (..., out)."""
        return feedback_linear(input, self.weight, self.bias, self.feedback_of_pass())


class _FeedbackConv(FeedbackLayer):
    """The part that convolutions of one and two dimensions share."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    _reversed_padding_repeated_twice: list[int]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        # torch's layers call this from forward. A padding that the kernel cannot do itself (a mode other than
        # zeros, 'same' with an even kernel) is a step of its own before it, and has its exact gradient.
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
        )
        return output if batched else output.squeeze(0)


class FeedbackConv1d(_FeedbackConv, nn.Conv1d):
    """``nn.Conv1d`` under Feedback Alignment. Made by `fadiag.convert`."""


class FeedbackConv2d(_FeedbackConv, nn.Conv2d):
    """``nn.Conv2d`` under Feedback Alignment. Made by `fadiag.convert`."""
