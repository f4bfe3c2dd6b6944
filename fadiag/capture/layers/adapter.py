"""How to read a module's weight and feedback, and how to run its backward pass with another matrix."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fadiag.errors import InputError

__all__ = [
    "FeedbackKind",
    "LayerAdapter",
    "adapter_of",
    "exact_layers",
    "read_weight",
    "refuse_matrix",
    "spending",
    "unknown_layers",
]


#: How a layer passes its error down: by a matrix in its weight's place, by one from the outputs, exactly.
FeedbackKind = Literal["layerwise", "direct", "exact", "unknown"]


def read_weight(module: nn.Module) -> Tensor:
    """Return the attribute ``weight`` of a module."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        raise InputError(f"{type(module).__name__} has no tensor named weight; give its adapter a weight=")
    return weight


def _bias(module: nn.Module) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _always(module: nn.Module) -> bool:
    return True


def _never(module: nn.Module) -> bool:
    return False


@dataclass(frozen=True)
class LayerAdapter:
    """What the recorder must know of one kind of layer.

    Attributes
    ----------
    types : tuple of module classes, or callable
        The modules it is for: instances of the classes, or those of which the callable says True.
    weight : callable, optional
        Module to W. A direct adapter may leave it out: the modules then only send feedback, and if they have
        a weight, the next adapter reads it.
    feedback : callable
        Module to the matrix in W's place in its backward pass; None where the backward is exact. Where it
        depends on the weight, the matrix that a pass with the weight as it is now would use; where it is
        drawn at each pass, that of the last one. Of a direct rule: F, (outputs, consumer's input).
    feedback_kind : {"layerwise", "direct", "exact", "unknown"}
    using : callable
        ``using(module, matrix)`` is a context; a forward pass made inside it takes the matrix in its
        backward pass.
    redraw : callable, optional
        ``redraw(module, generator)`` draws a fresh feedback of the same law. By default the entries of
        the feedback (of the weight, where there is none) are permuted.
    feedback_is_fixed : callable
        Module to whether its feedback stays the same for the whole run. Where it does not, ``feedback`` is
        recorded over time.
    feedback_is_learned : callable
        Module to whether its feedback is a parameter that receives the weight's gradient, and so belongs into
        the weight's parameter group.
    weight_dims : {("out", "in"), ("in", "out")}
        What the weight's first two axes are; the second is for tables, for matrices kept transposed, and for
        the kernels of transposed convolutions, (in, out / groups, *kernel).
    bias : callable
        Module to its bias, or None; by default its attribute ``bias``.
    exact : callable, optional
        ``exact(module)`` is a context; a forward pass made inside it has a true backward pass through the
        module. A direct adapter needs it: ``using`` cannot say so where F and W have one shape.
    credits : {"input", "output"}
        Of a direct adapter: whether the feedback is the credit of the layer whose output arrives at the
        module (it is the consumer, or lies before it), or of the module's own output.
    passes_on : bool
        Whether the modules return their first argument as it is.

    Raises
    ------
    InputError
        A feedback_kind that there is not, a direct adapter without ``exact``, or one of another kind without
        ``weight``.

    See Also
    --------
    fadiag.testing.check_adapter : tries an adapter on a module.

    Examples
    --------
    >>> adapter = exact_layers(nn.Bilinear)
    >>> adapter.feedback_kind, adapter.takes(nn.Bilinear(2, 2, 3)), adapter.takes(nn.Linear(2, 3))
    ('exact', True, False)
    """

    types: tuple[type[nn.Module], ...] | Callable[[nn.Module], bool]
    weight: Callable[[nn.Module], Tensor] | None
    feedback: Callable[[nn.Module], Tensor | None]
    feedback_kind: FeedbackKind
    using: Callable[[nn.Module, Tensor], AbstractContextManager[None]]
    redraw: Callable[[nn.Module, torch.Generator], Tensor] | None = None
    feedback_is_fixed: Callable[[nn.Module], bool] = _always
    feedback_is_learned: Callable[[nn.Module], bool] = _never
    weight_dims: tuple[str, str] = ("out", "in")
    bias: Callable[[nn.Module], Tensor | None] = _bias
    exact: Callable[[nn.Module], AbstractContextManager[None]] | None = None
    credits: Literal["input", "output"] = "input"
    passes_on: bool = False

    def __post_init__(self) -> None:
        """Check the kind, which decides what is recorded, and what a direct adapter needs."""
        if self.feedback_kind not in (kinds := get_args(FeedbackKind)):
            raise InputError(
                f"an adapter has the feedback_kind {self.feedback_kind!r}; it is one of {', '.join(kinds)}"
            )
        if self.is_direct and self.exact is None:
            raise InputError(
                "an adapter with feedback_kind='direct' has no exact=; give a context, exact(module), in "
                "which the module's backward pass is autograd's own: error_bp is read in it"
            )
        if self.weight is None and not (self.is_direct and self.credits == "input"):
            raise InputError(
                "an adapter has weight=None; only one of modules that send direct feedback to the layer "
                "below may (feedback_kind='direct', credits='input'); give weight=lambda m: m.weight"
            )

    @property
    def is_direct(self) -> bool:
        """Whether its modules send the network's error straight to a layer."""
        return self.feedback_kind == "direct"

    def weight_of(self, module: nn.Module) -> Tensor:
        """Return the weight of a module that has one."""
        assert self.weight is not None
        return self.weight(module)

    def redrawn(self, module: nn.Module, generator: torch.Generator) -> Tensor:
        """Return a fresh feedback of the module's law."""
        if self.redraw is not None:
            return self.redraw(module, generator)
        feedback = self.feedback(module)
        given = self.weight_of(module) if feedback is None else feedback
        order = torch.randperm(given.numel(), generator=generator, device=generator.device).to(given.device)
        return given.detach().flatten()[order].reshape(given.shape)

    def takes(self, module: nn.Module) -> bool:
        """Say whether this adapter is for the module."""
        return isinstance(module, self.types) if isinstance(self.types, tuple) else self.types(module)


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
def refuse_matrix(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    """Refuse another matrix in the backward pass, as the ``using`` of an adapter."""
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
    return LayerAdapter(
        types, read_weight, lambda module: None, "exact", refuse_matrix, weight_dims=weight_dims
    )


#: Modules that no adapter takes: they are counted among the layers, never read.
unknown_layers = LayerAdapter((), read_weight, lambda module: None, "unknown", refuse_matrix)


def adapter_of(module: nn.Module, adapters: Sequence[LayerAdapter]) -> LayerAdapter | None:
    """Return the first adapter that reads the module's weight, or None."""
    reading = (adapter for adapter in adapters if adapter.weight is not None)
    return next((adapter for adapter in reading if adapter.takes(module)), None)
