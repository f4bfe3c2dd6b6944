"""How to read a module's weight and feedback, and how to run its backward pass with another matrix."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules import FeedbackConv1d, FeedbackConv2d, FeedbackLayer, FeedbackLinear

__all__ = ["DEFAULT_ADAPTERS", "LayerAdapter", "adapter_of"]


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise InputError(f"{type(module).__name__} has no tensor named weight; give its adapter a weight=")
    return weight


def _permuted(module: nn.Module, generator: torch.Generator) -> Tensor:
    """Permute the entries of the module's feedback (of its weight, where it is exact)."""
    given = module.feedback if isinstance(module, FeedbackLayer) else _weight(module)
    assert isinstance(given, Tensor)
    order = torch.randperm(given.numel(), generator=generator).to(given.device)
    return given.detach().flatten()[order].reshape(given.shape)


@dataclass(frozen=True)
class LayerAdapter:
    """What the recorder must know of one kind of layer.

    Attributes
    ----------
    types : tuple of module classes, or callable
        The modules it is for: instances of the classes, or those of which the callable says True.
    weight : callable
        Module to W.
    feedback : callable
        Module to the matrix in W's place in its backward pass; None where the backward is exact.
    feedback_kind : {"layerwise", "exact"}
    using : callable
        ``using(module, matrix)`` is a context; a forward pass made inside it takes the matrix in its
        backward pass.
    redraw : callable
        ``redraw(module, generator)`` draws a fresh feedback of the same law. By default the entries of the
        module's ``feedback`` (or weight) are permuted.
    """

    types: tuple[type[nn.Module], ...] | Callable[[nn.Module], bool]
    weight: Callable[[nn.Module], Tensor]
    feedback: Callable[[nn.Module], Tensor | None]
    feedback_kind: str
    using: Callable[[nn.Module, Tensor], AbstractContextManager[None]]
    redraw: Callable[[nn.Module, torch.Generator], Tensor] = _permuted

    def takes(self, module: nn.Module) -> bool:
        """Say whether this adapter is for the module."""
        return isinstance(module, self.types) if isinstance(self.types, tuple) else self.types(module)


def _own_feedback(module: nn.Module) -> Tensor | None:
    assert isinstance(module, FeedbackLayer)
    return module.feedback


def _own_using(module: nn.Module, matrix: Tensor) -> AbstractContextManager[None]:
    assert isinstance(module, FeedbackLayer)
    return module.using_feedback(matrix)


_WITH_FEEDBACK: dict[type[nn.Module], type[FeedbackLayer]] = {
    nn.Linear: FeedbackLinear,
    nn.Conv1d: FeedbackConv1d,
    nn.Conv2d: FeedbackConv2d,
}


def _is_plain(module: nn.Module) -> bool:
    # A subclass with a forward of its own may have a backward of its own: it needs an adapter.
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _WITH_FEEDBACK)


@contextmanager
def _plain_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    kept: type[nn.Module] = type(module)
    base = next(kind for kind in _WITH_FEEDBACK if isinstance(module, kind))
    module.__class__ = _WITH_FEEDBACK[base]
    assert isinstance(module, FeedbackLayer)
    module.attach_feedback(matrix)
    try:
        yield
    finally:
        del module.feedback
        object.__setattr__(module, "__class__", kept)


#: fadiag's own feedback layers, then torch's layers, whose backward is exact.
DEFAULT_ADAPTERS: tuple[LayerAdapter, ...] = (
    LayerAdapter((FeedbackLayer,), _weight, _own_feedback, "layerwise", _own_using),
    LayerAdapter(_is_plain, _weight, lambda module: None, "exact", _plain_using),
)


def adapter_of(module: nn.Module, adapters: Sequence[LayerAdapter]) -> LayerAdapter | None:
    """Return the first adapter that takes the module, or None."""
    return next((adapter for adapter in adapters if adapter.takes(module)), None)
