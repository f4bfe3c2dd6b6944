"""Define layers with feedback: one autograd function for linear maps and one for convolutions.

The forward pass is torch's own. In the backward pass ``feedback`` replaces the weight, and nothing else
changes. The weight's gradient is still the product of the layer's error and its input.

The functions work under ``torch.compile(fullgraph=True)``, under ``torch.func`` and under both together.
``setup_context`` and the generated vmap rule are for ``torch.func``. ``allow_in_graph`` stops dynamo, the
compiler's first stage, from tracing the functions. Traced under ``torch.func.grad``, ``ctx.needs_input_grad``
would be wrong, and weight gradients would be lost silently. The next stage runs the functions as autograd
does.
"""

from fadiag.rules.layers.conv import FeedbackConv1d, FeedbackConv2d, feedback_conv
from fadiag.rules.layers.kinds import is_conv1d
from fadiag.rules.layers.linear import (
    FeedbackLinear,
    FeedbackTransposedLinear,
    TransposedLinear,
    feedback_linear,
)

__all__ = [
    "FeedbackConv1d",
    "FeedbackConv2d",
    "FeedbackLinear",
    "FeedbackTransposedLinear",
    "TransposedLinear",
    "feedback_conv",
    "feedback_linear",
    "is_conv1d",
]
