"""Define brSF: B = |M| sign(W), and each pass in training mode draws a new M."""

from typing import ClassVar

import torch
from torch import Tensor

from fadiag.rules.catalog.frsf import FixedSignLayer
from fadiag.rules.rule import Rule

__all__ = ["BRSF", "BatchSignLayer"]


class BatchSignLayer(FixedSignLayer):
    """Compute ``feedback = |M| sign(W)`` with Gaussian M of the weight's scale.

    M comes from torch's own generator, like a dropout mask. ``magnitude`` holds |M| of the last draw.
    """

    feedback_is_drawn: ClassVar[bool] = False

    def feedback_of_pass(self) -> Tensor | None:
        """Return the feedback with magnitudes drawn for this pass.

        Under `using_feedback` or in eval mode, nothing is drawn.
        """
        if self.training and self._given is None:
            weight = self.weight_now()
            self.magnitude.copy_(
                torch.randn_like(weight).abs() * (self.scale * weight.square().mean().sqrt())
            )
        return super().feedback_of_pass()

    def spend_draws(self) -> None:
        """Draw and discard M."""
        if self.training:
            torch.randn_like(self.weight_now())


BRSF = Rule("brsf", BatchSignLayer)
