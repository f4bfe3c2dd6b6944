"""How to read a module's weight and feedback, and how to run its backward pass with another matrix."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules import BatchSign, FeedbackConv1d, FeedbackConv2d, FeedbackLayer, FeedbackLinear

__all__ = [
    "LayerAdapter",
    "adapter_of",
    "embeddings",
    "exact_layers",
    "has_own_forward",
    "is_transposed",
    "own_layers",
    "plain_layers",
    "spending",
    "transposed_convolutions",
    "unknown_layers",
    "volume_convolutions",
]


def _weight(module: nn.Module) -> Tensor:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        raise InputError(f"{type(module).__name__} has no tensor named weight; give its adapter a weight=")
    return weight


def _always(module: nn.Module) -> bool:
    return True


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
        Module to the matrix in W's place in its backward pass; None where the backward is exact. Where it
        depends on the weight, the matrix that a pass with the weight as it is now would use; where it is
        drawn at each pass, that of the last one.
    feedback_kind : {"layerwise", "exact"}
    using : callable
        ``using(module, matrix)`` is a context; a forward pass made inside it takes the matrix in its
        backward pass.
    redraw : callable, optional
        ``redraw(module, generator)`` draws a fresh feedback of the same law. By default the entries of
        the feedback (of the weight, where there is none) are permuted.
    feedback_is_fixed : callable
        Module to whether its feedback stays the same for the whole run. Where it does not, ``feedback`` is
        recorded over time.
    weight_dims : {("out", "in"), ("in", "out")}
        What the weight's first two axes are; the second is for tables, for matrices kept transposed, and for
        the kernels of transposed convolutions, (in, out / groups, *kernel).
    """

    types: tuple[type[nn.Module], ...] | Callable[[nn.Module], bool]
    weight: Callable[[nn.Module], Tensor]
    feedback: Callable[[nn.Module], Tensor | None]
    feedback_kind: str
    using: Callable[[nn.Module, Tensor], AbstractContextManager[None]]
    redraw: Callable[[nn.Module, torch.Generator], Tensor] | None = None
    feedback_is_fixed: Callable[[nn.Module], bool] = _always
    weight_dims: tuple[str, str] = ("out", "in")

    def redrawn(self, module: nn.Module, generator: torch.Generator) -> Tensor:
        """Return a fresh feedback of the module's law."""
        if self.redraw is not None:
            return self.redraw(module, generator)
        feedback = self.feedback(module)
        given = self.weight(module) if feedback is None else feedback
        order = torch.randperm(given.numel(), generator=generator, device=generator.device).to(given.device)
        return given.detach().flatten()[order].reshape(given.shape)

    def takes(self, module: nn.Module) -> bool:
        """Say whether this adapter is for the module."""
        return isinstance(module, self.types) if isinstance(self.types, tuple) else self.types(module)


def _own_feedback(module: nn.Module) -> Tensor | None:
    assert isinstance(module, FeedbackLayer)
    return module.feedback


@contextmanager
def spending(module: nn.Module, draw: Callable[[], None]) -> Iterator[None]:
    """Draw random numbers before each forward pass inside that the module itself would have drawn.

    A pass with another matrix then sees the same dropout masks as the module's own.
    """
    handle = module.register_forward_pre_hook(lambda module, inputs: draw())
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _own_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    assert isinstance(module, FeedbackLayer)
    weight = _weight(module)

    def draw() -> None:
        if isinstance(module, BatchSign) and module.training:
            torch.randn_like(weight)

    with module.using_feedback(matrix), spending(module, draw):
        yield


_WITH_FEEDBACK: dict[type[nn.Module], type[FeedbackLayer]] = {
    nn.Linear: FeedbackLinear,
    nn.Conv1d: FeedbackConv1d,
    nn.Conv2d: FeedbackConv2d,
}


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_OF_TORCH = (*_WITH_FEEDBACK, nn.Conv3d, *_TRANSPOSED)


def has_own_forward(module: nn.Module) -> bool:
    """Say whether a subclass of ``nn.Linear`` or a convolution replaces its forward pass.

    Its backward pass may then be its own too, so nothing is known of its feedback.
    """
    return isinstance(module, _OF_TORCH) and not _is_torchs(module, _OF_TORCH)


def is_transposed(module: nn.Module) -> bool:
    """Say whether a module is a transposed convolution, whose kernel is (in, out / groups, *kernel)."""
    return isinstance(module, _TRANSPOSED)


def _is_torchs(module: nn.Module, kinds: Iterable[type[nn.Module]]) -> bool:
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _is_plain(module: nn.Module) -> bool:
    return _is_torchs(module, _WITH_FEEDBACK)


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


@contextmanager
def _none_using(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    raise InputError(
        f"a {type(module).__name__} is recorded as a layer with an exact backward pass, so it cannot take "
        "another feedback; leave it out of feedbacks, or give an adapter with using="
    )
    yield


def exact_layers(*types: type[nn.Module], weight_dims: tuple[str, str] = ("out", "in")) -> LayerAdapter:
    """Return the adapter of layers whose backward pass is autograd's own.

    For layers with a forward pass of their own, of which the recorder cannot know it.

    Parameters
    ----------
    *types : module classes
        With a parameter ``weight``, returning one tensor.
    weight_dims : {("out", "in"), ("in", "out")}
        What the weight's first two axes are, see `LayerAdapter`.

    Examples
    --------
    >>> class Halved(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x) / 2
    >>> exact_layers(Halved).takes(Halved(3, 2))
    True
    """
    return LayerAdapter(types, _weight, lambda module: None, "exact", _none_using, weight_dims=weight_dims)


#: fadiag's own feedback layers.
own_layers = LayerAdapter(
    (FeedbackLayer,),
    _weight,
    _own_feedback,
    "layerwise",
    _own_using,
    feedback_is_fixed=lambda module: isinstance(module, FeedbackLayer) and module.feedback_is_fixed,
)
#: torch's layers, whose backward is exact.
plain_layers = LayerAdapter(_is_plain, _weight, lambda module: None, "exact", _plain_using)
#: Convolutions that no rule has a feedback for, as torch has them.
volume_convolutions = replace(plain_layers, types=lambda m: _is_torchs(m, (nn.Conv3d,)), using=_none_using)
transposed_convolutions = replace(
    volume_convolutions, types=lambda m: _is_torchs(m, _TRANSPOSED), weight_dims=("in", "out")
)
#: Modules that no adapter takes: they are counted among the layers, never read.
unknown_layers = LayerAdapter((), _weight, lambda module: None, "unknown", _none_using)
#: Tables: no error goes below them.
embeddings = exact_layers(nn.Embedding, weight_dims=("in", "out"))


def adapter_of(module: nn.Module, adapters: Sequence[LayerAdapter]) -> LayerAdapter | None:
    """Return the first adapter that takes the module, or None."""
    return next((adapter for adapter in adapters if adapter.takes(module)), None)
