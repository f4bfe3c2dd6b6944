"""The kinds of layer that can have feedback: one autograd function for linear maps, one for convolutions.

The forward pass is torch's own. In the backward pass ``feedback`` takes the place of the weight, and nothing
else changes: the weight's gradient is still the product of the layer's error and its input.

The functions work under ``torch.compile(fullgraph=True)``, under ``torch.func`` and under both at once.
``setup_context`` and the generated vmap rule serve ``torch.func``. ``allow_in_graph`` makes the compiler's
first stage (dynamo) leave the functions whole: where it looks inside, ``ctx.needs_input_grad`` is wrong under
``torch.func.grad``, and weight gradients get lost silently. The next stage runs them as autograd does.
"""

from fadiag.rules.layers.conv import FeedbackConv1d, FeedbackConv2d, feedback_conv
from fadiag.rules.layers.kinds import is_conv1d
from fadiag.rules.layers.linear import FeedbackLinear, FeedbackTransposedLinear, feedback_linear

__all__ = [
    "FeedbackConv1d",
    "FeedbackConv2d",
    "FeedbackLinear",
    "FeedbackTransposedLinear",
    "feedback_conv",
    "feedback_linear",
    "is_conv1d",
]
