"""Define uSF: B = s sign(W), where s is the root mean square of W at each pass."""

from typing import ClassVar

from torch import Tensor

from fadiag.rules.catalog.sign import SignLayer
from fadiag.rules.rule import Rule

__all__ = ["USF", "UniformSignLayer"]


class UniformSignLayer(SignLayer):
    """Compute ``feedback = s sign(W)``."""

    feedback_is_drawn: ClassVar[bool] = False

    def attach_feedback(self, matrix: Tensor) -> None:
        """Do nothing: this rule needs no random matrix."""

    def magnitude_now(self) -> Tensor:
        """Return s."""
        return self.weight_now().square().mean().sqrt() * self.scale


USF = Rule("usf", UniformSignLayer)
