"""Layers with a fixed feedback matrix in their backward pass.

Each is a plain layer with one buffer more. So ``convert`` only changes a module's class, and its parameters,
hooks and references stay.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrize import type_before_parametrizations

from fadiag.rules.functional import feedback_conv, feedback_linear

__all__ = [
    "CONV1D",
    "FeedbackConv1d",
    "FeedbackConv2d",
    "FeedbackLayer",
    "FeedbackLinear",
    "FeedbackTransposedLinear",
    "is_conv1d",
]

#: The linear layer of transformers whose weight is (in, out). It is known by its path, never imported.
CONV1D = "transformers.pytorch_utils.Conv1D"


def is_conv1d(module: nn.Module) -> bool:
    """Say whether a module is transformers' ``Conv1D``: a linear layer whose weight is (in, out)."""
    kind = type_before_parametrizations(module)
    return f"{kind.__module__}.{kind.__qualname__}" == CONV1D


class FeedbackLayer(nn.Module):
    """A layer whose backward pass uses the matrix ``feedback`` in place of its weight.

    Attributes
    ----------
    feedback : Tensor
        B, in the weight's shape. A buffer that is saved with the model.
    rule : str
        The name of its learning rule, as `fadiag.convert` takes it.
    feedback_is_fixed : bool
        Whether the feedback stays the same for a whole run.
    """

    rule: ClassVar[str] = "fa"
    feedback_is_fixed: ClassVar[bool] = True
    feedback: Tensor

    def attach_feedback(self, matrix: Tensor) -> None:
        """Make a freshly drawn matrix this layer's feedback."""
        self.register_buffer("feedback", matrix)

    def feedback_of_pass(self) -> Tensor:
        """Return the matrix for the backward pass that belongs to the forward pass now running."""
        return self.feedback

    @contextmanager
    def using_feedback(self, matrix: Tensor) -> Iterator[None]:
        """Use ``matrix`` in the backward pass of every forward pass made inside.

        With the weight as ``matrix`` it is backpropagation.
        """
        kept = self.feedback
        self.feedback = matrix
        try:
            yield
        finally:
            self.feedback = kept

    def extra_repr(self) -> str:
        """Return the layer's own description, with the rule."""
        return f"{super().extra_repr()}, rule={self.rule!r}"


class FeedbackLinear(FeedbackLayer, nn.Linear):
    """``nn.Linear`` under Feedback Alignment. Made by `fadiag.convert`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """Map (..., in) to (..., out)."""
        return feedback_linear(input, self.weight, self.bias, self.feedback_of_pass())


class FeedbackTransposedLinear(FeedbackLayer):
    """transformers' ``Conv1D`` under Feedback Alignment: its weight and feedback are (in, out).

    Made by `fadiag.convert`. It is no subclass of ``Conv1D``, since fadiag does not import transformers.
    """

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return feedback_linear(x, self.weight.t(), self.bias, self.feedback_of_pass().t())

    def extra_repr(self) -> str:
        """Return the numbers of outputs and inputs, with the rule."""
        return f"nf={self.weight.shape[1]}, nx={self.weight.shape[0]}, rule={self.rule!r}"


class _FeedbackConv(FeedbackLayer):
    """What convolutions of one and two dimensions share."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    _reversed_padding_repeated_twice: list[int]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        # torch's layers call this from forward. Some padding is beyond the kernel: a mode other than zeros,
        # or 'same' with an even kernel. It is then a step before the kernel, with its exact gradient.
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
