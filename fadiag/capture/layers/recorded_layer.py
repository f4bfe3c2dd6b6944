"""RecordedLayer reads the weight, bias and feedback of one layer through its adapter."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from fadiag.capture.layers.adapter import LayerAdapter, unknown_layers
from fadiag.capture.layers.backward_hooks import has_backward_hooks
from fadiag.capture.layers.direct import DirectSender
from fadiag.capture.layers.feedback_source import feedback_source
from fadiag.rules.computed_weights import computed_weight, trained_tensors

__all__ = ["RecordedLayer", "in_order", "owners_of"]


@dataclass(frozen=True)
class RecordedLayer:
    """A module that is recorded, with its name and adapter.

    Attributes
    ----------
    name : str
    module : nn.Module
    adapter : LayerAdapter
    named : bool
        Whether the user asked for the layer by this name.
    sender : DirectSender or None
        The module that sends direct feedback to this layer's output; or the layer itself, if its F goes to an
        input that skip connections share (`credits_input`).
    sends : bool
        Whether the layer itself sends direct feedback to a layer below.
    parametrization : str
        The name of the parametrization that computes the weight; "" if the weight is a parameter.
    """

    name: str
    module: nn.Module
    adapter: LayerAdapter
    named: bool = False
    sender: DirectSender | None = None
    sends: bool = False
    parametrization: str = ""

    @property
    def weight(self) -> Tensor:
        """The forward weight; a parametrized one is computed at each read, in the module's current mode."""
        with self.reading():
            return self.adapter.weight_of(self.module)

    @property
    def weight_id(self) -> int:
        """An id that is equal for layers with a shared weight."""
        return id(self.module if self.parametrization else self.weight)

    @property
    def trained(self) -> dict[str, Tensor]:
        """The tensors that an optimizer may train, by name: the weight, or the parameters that compute it."""
        return trained_tensors(self.module) if self.parametrization else {"weight": self.weight}

    def reading(self) -> AbstractContextManager[None]:
        """Return a context for reading the weight and values computed from it; it restores the module."""
        return computed_weight(self.module) if self.parametrization else nullcontext()

    @property
    def outputs(self) -> int:
        """The number of outputs (channels of a convolution); 0 if it is not known."""
        if self.adapter is unknown_layers:
            return _stated_outputs(self.module) or _rows_of_matrix(self.module)
        own = self.module._parameters.get("weight")
        if own is not None and is_lazy(own):
            return _stated_outputs(self.module)
        outputs = int(self.weight.shape[self.adapter.weight_dims.index("out")])
        return outputs * self._groups if self._is_turned else outputs

    @property
    def _is_turned(self) -> bool:
        """Whether the weight is a transposed kernel, of shape (in, out / groups, *kernel)."""
        return self.adapter.weight_dims[0] == "in" and self.weight.dim() > 2

    @property
    def _groups(self) -> int:
        return int(getattr(self.module, "groups", 1))

    @property
    def matrix_dims(self) -> tuple[str, str]:
        """The axes of the weight as a matrix; those of a kernel are always (out, in * kernel)."""
        return ("out", "in") if self._is_turned else self.adapter.weight_dims

    def matrix(self, given: Tensor) -> Tensor:
        """Reshape a tensor of the weight's shape to the two axes of `matrix_dims`."""
        if self._is_turned:
            # Each group has separate outputs: turn its (in, out, *kernel) into (out, in, *kernel).
            split = given.reshape(self._groups, -1, *given.shape[1:])
            given = split.transpose(1, 2).flatten(0, 1)
        return given.reshape(given.shape[0], -1)  # a kernel becomes (out, in * kernel)

    @property
    def bias(self) -> Tensor | None:
        """The bias, or None."""
        return self.adapter.bias(self.module)

    @property
    def feedback(self) -> Tensor | None:
        """The matrix that replaces the weight in the backward pass, or the direct feedback to this layer.

        None if the backward pass is exact.
        """
        if self.sender is not None:
            return self.sender.feedback
        with self.reading():  # a sign rule computes it from the weight
            return None if self.adapter.is_direct else self.adapter.feedback(self.module)

    @cached_property
    def feedback_source(self) -> str:
        """The source of the feedback: an attribute's path, the rule, or the sending module; "" if exact."""
        if self.sender is not None:
            return f"sent by {self.sender.name}"
        return feedback_source(self.name, self.module, lambda: self.feedback)

    @property
    def feedback_is_fixed(self) -> bool:
        """Whether the feedback stays the same for the whole run."""
        if self.sender is not None:
            return self.sender.adapter.feedback_is_fixed(self.sender.module)
        return self.adapter.is_direct or self.adapter.feedback_is_fixed(self.module)

    @property
    def feedback_dims(self) -> tuple[str, str]:
        """The axes of the feedback as a matrix; direct feedback maps the outputs to h."""
        return self.matrix_dims if self.sender is None else ("output", "consumer_in")

    def feedback_matrix(self, feedback: Tensor) -> Tensor:
        """Reshape a feedback to the two axes of `feedback_dims`."""
        return self.matrix(feedback) if self.sender is None else feedback.flatten(1)

    def redrawn(self, generator: Generator) -> Tensor:
        """Return a new feedback from the same distribution as the layer's."""
        source = self if self.sender is None else self.sender
        with self.reading():
            return source.adapter.redrawn(source.module, generator)

    def using(self, matrix: Tensor | None) -> AbstractContextManager[None]:
        """Replace the feedback for forward passes in this context; None makes the backward pass exact."""
        if self.sender is not None:
            return self.sender.using(matrix)
        weight = self.weight
        # A view, not a copy, because a gradient penalty differentiates through the weight.
        own = weight.view_as(weight) if matrix is None else matrix.to(weight)
        return self.adapter.using(self.module, own)

    @property
    def credits_input(self) -> bool:
        """Whether the layer's feedback is its own F, sent to its input."""
        return (
            self.sender is not None
            and self.sender.module is self.module
            and self.sender.adapter.credits == "input"
        )

    @property
    def feedback_kind(self) -> str:
        """The kind of the feedback that is recorded with this layer.

        It is the adapter's, "direct_input" for an F that goes to the layer's input, or "hook" if it is exact
        but the module has backward hooks.
        """
        if self.sender is not None:
            return "direct_input" if self.credits_input else "direct"
        kind = "exact" if self.adapter.is_direct else self.adapter.feedback_kind
        return "hook" if kind == "exact" and not self.sends and has_backward_hooks(self.module) else kind


def in_order(model: nn.Module, layers: Sequence[RecordedLayer]) -> tuple[RecordedLayer, ...]:
    """Return layers in the model's order."""
    place = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(layers, key=lambda layer: place[layer.name]))


def owners_of(layers: Sequence[RecordedLayer]) -> dict[int, RecordedLayer]:
    """Return the layer under which each weight is recorded, by `RecordedLayer.weight_id`.

    A tied weight is recorded once. The first of its layers with feedback owns it, so W and B have one owner;
    without feedback, the first layer that is not an embedding; otherwise the first layer.
    """
    tied: dict[int, list[RecordedLayer]] = {}
    for layer in layers:
        tied.setdefault(layer.weight_id, []).append(layer)
    return {
        weight: min(
            sharing,
            key=lambda x: (x.adapter.feedback_kind != "layerwise", isinstance(x.module, nn.Embedding)),
        )
        for weight, sharing in tied.items()
    }


def _stated_outputs(module: nn.Module) -> int:
    """Return the number of outputs from a module's attributes; 0 if no attribute gives it."""
    for name in ("out_features", "out_channels", "hidden_size", "embedding_dim"):
        if isinstance(count := getattr(module, name, None), int):
            return count
    return 0


def _rows_of_matrix(module: nn.Module) -> int:
    own = (*module._parameters.values(), *trained_tensors(module).values())
    return next(len(p) for p in own if p is not None and p.dim() > 1)
