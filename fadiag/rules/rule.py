"""Define a learning rule: its name, and how its layers get and use their feedback matrix B."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["FeedbackLayer", "Rule"]


class FeedbackLayer(nn.Module):
    """Use the matrix ``feedback`` in place of the weight in the backward pass of a layer.

    This base class implements Feedback Alignment: B is drawn once and stays fixed. Another rule is a subclass
    that overrides the differences. `Rule` combines it with every kind of layer.

    Attributes
    ----------
    feedback : Tensor
        B, in the weight's shape, as a pass made now would use it. It is a buffer saved with the model, a
        parameter if it is learned, or computed from the weight.
    rule : str
        Name of the learning rule in `fadiag.convert`.
    feedback_is_fixed : bool
        Whether B stays the same for a whole run.
    feedback_is_learned : bool
        Whether B is a parameter that receives the weight's gradient in every backward pass.
    feedback_is_drawn : bool
        Whether B is made from a matrix that `fadiag.convert` draws or receives.
    replaces_weight : bool
        Whether ``feedback`` has the weight's shape and takes its place in the backward pass.
    scale : float
        Root mean square of B divided by the weight's, at the conversion.

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
    feedback_is_drawn: ClassVar[bool] = True
    replaces_weight: ClassVar[bool] = True
    scale: float = 1.0
    feedback: Tensor
    _given: Tensor | None = None

    def attach_feedback(self, matrix: Tensor) -> None:
        """Set a newly drawn matrix as this layer's feedback.

        Layers that share a weight get the same matrix. It is a parameter if the rule learns it.
        """
        if self.feedback_is_learned:
            assert isinstance(matrix, nn.Parameter)
            self.register_parameter("feedback", matrix)
        else:
            self.register_buffer("feedback", matrix)

    def feedback_of_pass(self) -> Tensor | None:
        """Return the matrix for the backward pass of the forward pass that is running now.

        None if the layer sends no error through a matrix of the weight's shape.
        """
        return self.feedback if self._given is None else self._given

    def learns_in_pass(self) -> bool:
        """Return whether the backward pass of the current forward pass gives B the weight's gradient."""
        return self.feedback_is_learned and self._given is None

    def spend_draws(self) -> None:
        """Draw and discard the random numbers that a forward pass draws for its feedback.

        The recorder calls it before a pass under `using_feedback`, so that dropout masks stay the same.
        """

    @contextmanager
    def using_feedback(self, matrix: Tensor) -> Iterator[None]:
        """Use ``matrix`` in the backward pass of every forward pass made inside.

        With the weight as ``matrix`` the backward pass is backpropagation. Inside, no B is learned or drawn.
        """
        previous = self._given
        # Bypass nn.Module's assignment, which would register a Parameter as a parameter of the layer.
        vars(self)["_given"] = matrix
        try:
            yield
        finally:
            vars(self)["_given"] = previous

    def extra_repr(self) -> str:
        """Return the description of the layer, with the rule."""
        return f"{super().extra_repr()}, rule={self.rule!r}"


@dataclass(frozen=True)
class Rule:
    """Describe a learning rule for `fadiag.convert`.

    Attributes
    ----------
    name : str
        Name in ``convert(model, rule=...)``.
    layer : subclass of FeedbackLayer, or None
        Class that defines how layers get and use B. None if the backward pass stays exact.
    trains : bool
        Whether the layers learn at all.
    needs_example : bool
        Whether `fadiag.convert` needs a batch, because the layers depend on each other.

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
    needs_example: bool = False
