"""Define Feedback Alignment: B is drawn once, independently of W, and stays fixed.

Lillicrap, Cownden, Tweed, Akerman, "Random synaptic feedback weights support error backpropagation for deep
learning", Nature Communications 7:13276, 2016.
"""

from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["FA"]

FA = Rule("fa", FeedbackLayer)
