"""Define frSF: B = |M| sign(W), where M is drawn once."""

from torch import Tensor

from fadiag.rules.catalog.sign import SignLayer
from fadiag.rules.rule import Rule

__all__ = ["FRSF", "FixedSignLayer"]


class FixedSignLayer(SignLayer):
    """Compute ``feedback = |M| sign(W)``; the buffer ``magnitude`` holds |M|."""

    magnitude: Tensor

    def attach_feedback(self, matrix: Tensor) -> None:
        """Store the magnitudes of ``matrix``."""
        self.register_buffer("magnitude", matrix.abs())

    def magnitude_now(self) -> Tensor:
        """Return |M|."""
        return self.magnitude


FRSF = Rule("frsf", FixedSignLayer)
