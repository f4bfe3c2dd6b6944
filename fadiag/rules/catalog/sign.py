"""SignLayer is the base class of the sign rules: B has the weight's current signs and other magnitudes.

Liao, Leibo, Poggio, "How important is weight symmetry in backpropagation?", AAAI 2016, arXiv 1510.05067. At
initialization with Gaussian weights, the cosine of feedback and weight is sqrt(2/pi) = 0.798 for uSF and
2/pi = 0.637 for frSF and brSF; with uniform weights sqrt(3)/2 and 3/4.
"""

from typing import ClassVar

from torch import Tensor

from fadiag.rules.rule import FeedbackLayer

__all__ = ["SignLayer"]


class SignLayer(FeedbackLayer):
    """Compute ``feedback`` from the weight; it cannot be set."""

    feedback_is_fixed: ClassVar[bool] = False

    @property
    def feedback(self) -> Tensor:  # type: ignore[override]
        """Magnitudes with the weight's signs."""
        return self.magnitude_now() * self.weight_now().sign()

    def magnitude_now(self) -> Tensor:
        """Return the magnitudes; each rule defines them."""
        raise NotImplementedError

    def weight_now(self) -> Tensor:
        """Return the weight as a constant."""
        assert isinstance(self.weight, Tensor)
        return self.weight.detach()
