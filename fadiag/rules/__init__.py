"""Convert the layers of a model to another learning rule, such as Feedback Alignment."""

from fadiag.rules.catalog import RULES
from fadiag.rules.catalog.direct import DirectLayer
from fadiag.rules.catalog.drtp import targets
from fadiag.rules.convert import convert
from fadiag.rules.feedback import LAWS, draw_feedback, generator_for
from fadiag.rules.layers import (
    FeedbackConv1d,
    FeedbackConv2d,
    FeedbackLinear,
    FeedbackTransposedLinear,
    feedback_conv,
    feedback_linear,
)
from fadiag.rules.rule import FeedbackLayer, Rule

__all__ = [
    "LAWS",
    "RULES",
    "DirectLayer",
    "FeedbackConv1d",
    "FeedbackConv2d",
    "FeedbackLayer",
    "FeedbackLinear",
    "FeedbackTransposedLinear",
    "Rule",
    "convert",
    "draw_feedback",
    "feedback_conv",
    "feedback_linear",
    "generator_for",
    "targets",
]


def __dir__() -> list[str]:
    return sorted(__all__)
