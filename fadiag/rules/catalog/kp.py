"""Define Kolen-Pollack: B learns by the same updates as W, so that weight decay makes the two equal.

B receives W's own gradient in the backward pass, and the optimizer updates both alike. Their difference then
only decays: under SGD, W_t - B_t = (1 - learning rate * weight decay)^t (W_0 - B_0). The same holds under
decoupled decay (AdamW, Muon). Without decay the difference stays constant. It does not hold for Adam with
coupled decay.

Akrout, Wilson, Humphreys, Lillicrap, Tweed, "Deep learning without weight transport", NeurIPS 2019,
arXiv 1904.05391, after Kolen and Pollack, "Backpropagation without weight transport", ICNN 1994.
"""

from typing import ClassVar

from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["KP", "KolenPollackLayer"]


class KolenPollackLayer(FeedbackLayer):
    """Make ``feedback`` a parameter that receives W's gradient.

    Convert the model before you build the optimizer, and put W and B into one parameter group. Only the
    layer's own part of W's gradient reaches B. The parts from a penalty on W in the loss, or from an
    embedding that shares W, do not.
    """

    feedback_is_fixed: ClassVar[bool] = False
    feedback_is_learned: ClassVar[bool] = True


KP = Rule("kp", KolenPollackLayer)
