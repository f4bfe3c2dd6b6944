"""Feedback Alignment: B is drawn once, apart from W, and stays.

Lillicrap, Cownden, Tweed, Akerman, "Random synaptic feedback weights support error backpropagation for deep
learning", Nature Communications 7:13276, 2016.
"""

from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = ["FA"]

FA = Rule("fa", FeedbackLayer)
