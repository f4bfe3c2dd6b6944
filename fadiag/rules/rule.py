"""What a learning rule is: a name, and the way its layers get and use their feedback matrix B."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["FeedbackLayer", "Rule"]


class FeedbackLayer(nn.Module):
    """A layer whose backward pass uses the matrix ``feedback`` in place of its weight.

    By itself it follows Feedback Alignment: B is drawn once and stays. Another rule is a subclass that
    overrides what differs; `Rule` combines it with every kind of layer.

    Attributes
    ----------
    feedback : Tensor
        B, in the weight's shape: what a pass made now would use. A buffer that is saved with the model, a
        parameter if it is learned, or computed from the weight.
    rule : str
        The name of its learning rule, as `fadiag.convert` takes it.
    feedback_is_fixed : bool
        Whether B stays the same for a whole run.
    feedback_is_learned : bool
        Whether B is a parameter that receives the weight's gradient in every backward pass.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> layer = convert(nn.Linear(4, 3), "fa")
    >>> isinstance(layer, FeedbackLayer), layer.rule, layer.feedback_is_fixed
    (True, 'fa', True)
    """

    rule: ClassVar[str] = "fa"
    feedback_is_fixed: ClassVar[bool] = True
    feedback_is_learned: ClassVar[bool] = False
    feedback: Tensor
    _given: Tensor | None = None

    def attach_feedback(self, matrix: Tensor) -> None:
        """Make a freshly drawn matrix this layer's feedback.

        Layers that share a weight get the same matrix. It is a parameter if the rule learns it.
        """
        if self.feedback_is_learned:
            assert isinstance(matrix, nn.Parameter)
            self.register_parameter("feedback", matrix)
        else:
            self.register_buffer("feedback", matrix)

    def feedback_of_pass(self) -> Tensor:
        """Return the matrix for the backward pass that belongs to the forward pass now running."""
        return self.feedback if self._given is None else self._given

    def learns_in_pass(self) -> bool:
        """Say whether the backward pass now prepared gives B the weight's gradient."""
        return self.feedback_is_learned and self._given is None

    def spend_draws(self) -> None:
        """Draw the random numbers that a forward pass draws for its feedback, and forget them.

        The recorder calls it before a pass under `using_feedback`, so that dropout masks stay the same.
        """

    @contextmanager
    def using_feedback(self, matrix: Tensor) -> Iterator[None]:
        """Use ``matrix`` in the backward pass of every forward pass made inside.

        With the weight as ``matrix`` it is backpropagation. Inside, no B is learned or drawn.
        """
        kept = self._given
        # Past nn.Module's own assignment, which would make a parameter of the layer out of a Parameter.
        vars(self)["_given"] = matrix
        try:
            yield
        finally:
            vars(self)["_given"] = kept

    def extra_repr(self) -> str:
        """Return the layer's own description, with the rule."""
        return f"{super().extra_repr()}, rule={self.rule!r}"


@dataclass(frozen=True)
class Rule:
    """A learning rule that `fadiag.convert` knows.

    Attributes
    ----------
    name : str
        As ``convert(model, rule=...)`` takes it.
    layer : subclass of FeedbackLayer, or None
        How its layers get and use their B. None where the backward pass stays exact.
    trains : bool
        Whether its layers learn at all.

    Examples
    --------
    >>> class HalvedLayer(FeedbackLayer):
    ...     def feedback_of_pass(self):
    ...         return super().feedback_of_pass() / 2
    >>> Rule("halved", HalvedLayer).trains
    True
    """

    name: str
    layer: type[FeedbackLayer] | None
    trains: bool = True
