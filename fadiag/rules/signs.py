"""Sign-concordant feedback: a backward matrix that has the weight's present signs and other magnitudes.

The three rules are those of Liao, Leibo, Poggio, "How important is weight symmetry in backpropagation?", AAAI
2016, arXiv 1510.05067. At initialization with Gaussian weights, the cosine of feedback and weight is
sqrt(2/pi) = 0.798 for uSF and 2/pi = 0.637 for frSF and brSF; with uniform weights sqrt(3)/2 and 3/4.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

from fadiag.rules.layers import (
    FeedbackConv1d,
    FeedbackConv2d,
    FeedbackLayer,
    FeedbackLinear,
    FeedbackTransposedLinear,
)

__all__ = [
    "BatchSign",
    "BatchSignConv1d",
    "BatchSignConv2d",
    "BatchSignLinear",
    "BatchSignTransposedLinear",
    "FixedSign",
    "FixedSignConv1d",
    "FixedSignConv2d",
    "FixedSignLinear",
    "FixedSignTransposedLinear",
    "UniformSign",
    "UniformSignConv1d",
    "UniformSignConv2d",
    "UniformSignLinear",
    "UniformSignTransposedLinear",
]


class _Sign(FeedbackLayer):
    """What the sign rules share: ``feedback`` is computed from the weight, and cannot be set."""

    feedback_is_fixed: ClassVar[bool] = False
    _in_use: Tensor | None = None

    @property
    def feedback(self) -> Tensor:  # type: ignore[override]
        """The matrix of a pass made now: the magnitudes with the weight's signs."""
        return self._magnitude() * self._weight().sign() if self._in_use is None else self._in_use

    @contextmanager
    def using_feedback(self, matrix: Tensor) -> Iterator[None]:
        kept = self._in_use
        self._in_use = matrix
        try:
            yield
        finally:
            self._in_use = kept

    def _magnitude(self) -> Tensor:
        raise NotImplementedError

    def _weight(self) -> Tensor:
        assert isinstance(self.weight, Tensor)
        return self.weight.detach()


class UniformSign(_Sign):
    """uSF: ``feedback = s sign(W)``, where s is the root mean square of W at each pass."""

    rule: ClassVar[str] = "usf"

    def attach_feedback(self, matrix: Tensor) -> None:
        """Do nothing: this rule needs no random matrix."""

    def _magnitude(self) -> Tensor:
        return self._weight().square().mean().sqrt()


class FixedSign(_Sign):
    """frSF: ``feedback = |M| sign(W)``, where M is drawn once. The buffer ``magnitude`` holds |M|."""

    rule: ClassVar[str] = "frsf"
    magnitude: Tensor

    def attach_feedback(self, matrix: Tensor) -> None:
        """Keep the magnitudes of ``matrix``."""
        self.register_buffer("magnitude", matrix.abs())

    def _magnitude(self) -> Tensor:
        return self.magnitude


class BatchSign(FixedSign):
    """brSF: ``feedback = |M| sign(W)``, where each pass in training mode draws M anew.

    M is Gaussian with the weight's scale. It comes from torch's own generator, as a dropout mask does. Until
    the next draw, ``magnitude`` is that of the last one.
    """

    rule: ClassVar[str] = "brsf"

    def feedback_of_pass(self) -> Tensor:
        """Draw the magnitudes of this pass, unless the feedback is given or the model is in eval mode."""
        if self.training and self._in_use is None:
            weight = self._weight()
            self.magnitude.copy_(torch.randn_like(weight).abs() * weight.square().mean().sqrt())
        return self.feedback


class UniformSignLinear(UniformSign, FeedbackLinear):
    """``nn.Linear`` under uSF."""


class UniformSignTransposedLinear(UniformSign, FeedbackTransposedLinear):
    """transformers' ``Conv1D`` under uSF."""


class UniformSignConv1d(UniformSign, FeedbackConv1d):
    """``nn.Conv1d`` under uSF."""


class UniformSignConv2d(UniformSign, FeedbackConv2d):
    """``nn.Conv2d`` under uSF."""


class FixedSignLinear(FixedSign, FeedbackLinear):
    """``nn.Linear`` under frSF."""


class FixedSignTransposedLinear(FixedSign, FeedbackTransposedLinear):
    """transformers' ``Conv1D`` under frSF."""


class FixedSignConv1d(FixedSign, FeedbackConv1d):
    """``nn.Conv1d`` under frSF."""


class FixedSignConv2d(FixedSign, FeedbackConv2d):
    """``nn.Conv2d`` under frSF."""


class BatchSignLinear(BatchSign, FeedbackLinear):
    """``nn.Linear`` under brSF."""


class BatchSignTransposedLinear(BatchSign, FeedbackTransposedLinear):
    """transformers' ``Conv1D`` under brSF."""


class BatchSignConv1d(BatchSign, FeedbackConv1d):
    """``nn.Conv1d`` under brSF."""


class BatchSignConv2d(BatchSign, FeedbackConv2d):
    """``nn.Conv2d`` under brSF."""
