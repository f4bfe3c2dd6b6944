"""Learning rules as layers, and `convert`, which puts them into a model."""

from fadiag.rules.convert import RULES, convert
from fadiag.rules.feedback import LAWS, draw_feedback, generator_for
from fadiag.rules.functional import feedback_conv, feedback_linear
from fadiag.rules.layers import (
    FeedbackConv1d,
    FeedbackConv2d,
    FeedbackLayer,
    FeedbackLinear,
    FeedbackTransposedLinear,
)
from fadiag.rules.signs import BatchSign, FixedSign, UniformSign

__all__ = [
    "LAWS",
    "RULES",
    "BatchSign",
    "FeedbackConv1d",
    "FeedbackConv2d",
    "FeedbackLayer",
    "FeedbackLinear",
    "FeedbackTransposedLinear",
    "FixedSign",
    "UniformSign",
    "convert",
    "draw_feedback",
    "feedback_conv",
    "feedback_linear",
    "generator_for",
]


def __dir__() -> list[str]:
    return sorted(__all__)
