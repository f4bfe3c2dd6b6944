"""brSF: B = |M| sign(W), where each pass in training mode draws M anew."""

import torch
from torch import Tensor

from fadiag.rules.catalog.frsf import FixedSignLayer
from fadiag.rules.rule import Rule

__all__ = ["BRSF", "BatchSignLayer"]


class BatchSignLayer(FixedSignLayer):
    """``feedback = |M| sign(W)``, with M Gaussian of the weight's scale.

    M comes from torch's own generator, as a dropout mask does. Until the next draw, ``magnitude`` is that of
    the last one.
    """

    def feedback_of_pass(self) -> Tensor:
        """Draw the magnitudes of this pass, unless the feedback is given or the model is in eval mode."""
        if self.training and self._given is None:
            weight = self.weight_now()
            self.magnitude.copy_(torch.randn_like(weight).abs() * weight.square().mean().sqrt())
        return super().feedback_of_pass()

    def spend_draws(self) -> None:
        """Draw M and forget it."""
        if self.training:
            torch.randn_like(self.weight_now())


BRSF = Rule("brsf", BatchSignLayer)
