"""DirectLayer is the base class of the direct rules: the credit of each layer comes from the outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from fadiag.errors import InputError
from fadiag.rules.rule import FeedbackLayer

__all__ = ["DirectLayer", "PassState", "recomputes"]


class PassState:
    """What the layers of one converted model share during a forward pass.

    A copy of it is empty, so that a model can be saved or copied between two passes.

    Attributes
    ----------
    taps : list of Tensor
        The taps of the layers called so far, see `fadiag.rules.layers.direct`.
    credit : Tensor or None
        What the layers send in place of the error of the outputs.

    Examples
    --------
    >>> import copy
    >>> state = PassState()
    >>> state.taps.append(torch.zeros(2, 3))
    >>> copy.copy(state).taps
    []
    """

    def __init__(self) -> None:
        self.taps: list[Tensor] = []
        self.credit: Tensor | None = None

    def __reduce__(self) -> tuple[type["PassState"], tuple[()]]:
        """Copy the state without its tensors."""
        return PassState, ()


class DirectLayer(FeedbackLayer):
    """Send credit from the network's outputs through F to the layer below, in place of delta W.

    ``feedback`` is F, (outputs, *input of a sample). It credits the output of the layer below. Everything
    between the two layers (gate, norm, pool) keeps its exact backward pass. A skip connection that leads past
    this layer keeps its own credit, so below a residual block the two credits are added.

    Attributes
    ----------
    name : str
        The layer's name in the converted model.
    is_first, is_output : bool
        Whether a pass calls this layer first, and whether its result is the network's output.

    Examples
    --------
    >>> from fadiag.rules import convert
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> model = convert(model, "dfa", example=torch.ones(1, 4))
    >>> isinstance(model[2], DirectLayer), model[2].feedback.shape, model[2].is_output
    (True, torch.Size([2, 3]), True)
    """

    rule: ClassVar[str] = "dfa"
    replaces_weight: ClassVar[bool] = False
    name: str
    is_first: bool
    is_output: bool
    _state: PassState
    _is_exact: bool = False

    def link(self, state: PassState, name: str, *, is_first: bool, is_output: bool) -> None:
        """Set what the layer shares with the other layers of its model, and its place among them."""
        self._state, self.name, self.is_first, self.is_output = state, name, is_first, is_output

    def feedback_of_pass(self) -> Tensor | None:
        """Return the weight in an exact pass, and None otherwise: F acts at the input."""
        weight = self.weight
        assert isinstance(weight, Tensor)
        return weight if self._is_exact else None

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Make the backward pass of every forward pass made inside exact."""
        previous = self._is_exact
        vars(self)["_is_exact"] = True
        try:
            yield
        finally:
            vars(self)["_is_exact"] = previous

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """Map the input as torch's own layer does."""
        if not torch.is_grad_enabled():
            return self.map(input)
        if self.is_first and not recomputes():
            self._state.taps = []
        output = self.map(input if self._is_exact else self.credited(input))
        return self.with_taps(output) if self.is_output else output

    def map(self, x: Tensor) -> Tensor:
        """Apply the layer of the kind that this class is combined with."""
        mapped: Any = super().forward
        return mapped(x)  # type: ignore[no-any-return]

    def matrix_of_pass(self, x: Tensor) -> Tensor:
        """Return F for the current forward pass.

        Raises
        ------
        InputError
            The input has another shape than the example that F was made for.
        """
        feedback = self.feedback if self._given is None else self._given
        if feedback.shape[1:] != x.shape[1:]:
            raise InputError(
                f"layer {self.name!r} has an input of {tuple(x.shape[1:])} per sample, and its feedback is "
                f"for {tuple(feedback.shape[1:])}; give convert an example of the size that you train with"
            )
        return feedback

    def credited(self, x: Tensor) -> Tensor:
        """Return the input unchanged; backward, it receives this rule's credit."""
        raise NotImplementedError

    def with_taps(self, outputs: Tensor) -> Tensor:
        """Return the network's outputs unchanged; backward, the taps of the pass receive their error."""
        return outputs


def recomputes() -> bool:
    """Return whether the forward pass runs inside a backward pass, where a checkpoint runs a block again.

    Examples
    --------
    >>> recomputes()
    False
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
