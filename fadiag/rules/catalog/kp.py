"""Kolen-Pollack: B learns by the same updates as W, so that weight decay makes the two equal.

B receives W's own gradient in the backward pass, and the optimizer treats both alike. Their difference then
only decays: under SGD, W_t - B_t = (1 - learning rate * weight decay)^t (W_0 - B_0). So does it under
decoupled decay (AdamW, Muon). Without decay the difference stays. Adam with coupled decay has no such law.

Akrout, Wilson, Humphreys, Lillicrap, Tweed, "Deep learning without weight transport", NeurIPS 2019,
arXiv 1904.05391, after Kolen and Pollack, "Backpropagation without weight transport", ICNN 1994.
"""

from typing import ClassVar

from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["KP", "KolenPollackLayer"]


class KolenPollackLayer(FeedbackLayer):
    """``feedback`` is a parameter that receives W's gradient.

    Convert the model before the optimizer is built, and give the optimizer W and B in one parameter group.
    Only the layer's own part of W's gradient reaches B: not that of a penalty on W in the loss, nor that of a
    table that shares W.
    """

    feedback_is_fixed: ClassVar[bool] = False
    feedback_is_learned: ClassVar[bool] = True


KP = Rule("kp", KolenPollackLayer)
