"""LayerAdapter describes how to read a module's weight and feedback, and how to replace its feedback."""

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
    "permuted",
    "read_weight",
    "refuse_matrix",
    "spending",
    "unknown_layers",
]


#: How a layer propagates its error: through a matrix in place of the weight, through a matrix from the
#: network's outputs, exactly, or exactly after a change of the error itself.
FeedbackKind = Literal["layerwise", "direct", "exact", "altered", "unknown"]


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
    """Describes one kind of layer to the recorder.

    Attributes
    ----------
    types : tuple of module classes, or callable
        The classes of the modules, or a function that returns True for such a module.
    weight : callable, optional
        Returns W of a module. A direct adapter may omit it: its modules then only send feedback, and the next
        adapter reads their weight.
    feedback : callable
        Returns the matrix that replaces W in a module's backward pass, or None if the backward pass is exact.
        If the matrix depends on the weight, return the one for the current weight. If each pass draws a new
        matrix, return the last one. For a direct rule, return F, (outputs, consumer's input).
    feedback_kind : {"layerwise", "direct", "exact", "altered", "unknown"}
    using : callable
        ``using(module, matrix)`` is a context manager. The backward pass of a forward pass made inside uses
        the matrix.
    redraw : callable, optional
        ``redraw(module, generator)`` draws a new feedback from the same distribution. By default the entries
        of the feedback are permuted; without a feedback, those of the weight.
    feedback_is_fixed : callable
        Returns whether a module's feedback stays the same for the whole run. If not, ``feedback`` is recorded
        over time.
    feedback_is_learned : callable
        Returns whether a module's feedback is a parameter that receives the weight's gradient. It then
        belongs to the weight's parameter group.
    weight_dims : {("out", "in"), ("in", "out")}
        The meaning of the weight's first two axes. ("in", "out") is for tables, for transposed matrices, and
        for the kernels of transposed convolutions, (in, out / groups, *kernel).
    bias : callable
        Returns a module's bias or None; by default its attribute ``bias``.
    exact : callable, optional
        ``exact(module)`` is a context manager. A forward pass made inside has an exact backward pass through
        the module. A direct adapter needs it: F and W may have the same shape, so ``using`` cannot ask for an
        exact pass.
    credits : {"input", "output"}
        For a direct adapter, the output that the feedback credits: "input" means the output of the layer
        below, "output" the module's own.
    passes_on : bool
        Whether the modules return their first argument unchanged.

    Raises
    ------
    InputError
        The feedback_kind is unknown, a direct adapter has no ``exact``, or an adapter of another kind has no
        ``weight``.

    See Also
    --------
    fadiag.testing.check_adapter : Test an adapter on a module.

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
        """Check the kind, and that the adapter has the callables that its kind needs."""
        if self.feedback_kind not in (kinds := get_args(FeedbackKind)):
            raise InputError(
                f"an adapter has the feedback_kind {self.feedback_kind!r}; it is one of {', '.join(kinds)}"
            )
        if self.is_direct and self.exact is None:
            raise InputError(
                "an adapter with feedback_kind='direct' has no exact=; give a context, exact(module), in "
                "which the module's backward pass is autograd's own: error_bp is computed in it"
            )
        if self.weight is None and not (self.is_direct and self.credits == "input"):
            raise InputError(
                "an adapter has weight=None; only modules that send direct feedback to the layer below need "
                "none (feedback_kind='direct', credits='input'); give weight=lambda m: m.weight"
            )

    @property
    def is_direct(self) -> bool:
        """Whether its modules send the error of the network's output directly to a layer."""
        return self.feedback_kind == "direct"

    def weight_of(self, module: nn.Module) -> Tensor:
        """Return the weight of a module that has one."""
        assert self.weight is not None
        return self.weight(module)

    def redrawn(self, module: nn.Module, generator: torch.Generator) -> Tensor:
        """Return a new feedback from the same distribution as the module's."""
        if self.redraw is not None:
            return self.redraw(module, generator)
        feedback = self.feedback(module)
        return permuted(self.weight_of(module) if feedback is None else feedback, generator)

    def takes(self, module: nn.Module) -> bool:
        """Return whether this adapter is for the module."""
        return isinstance(module, self.types) if isinstance(self.types, tuple) else self.types(module)


def permuted(matrix: Tensor, generator: torch.Generator) -> Tensor:
    """Return the entries of a matrix in random order.

    Examples
    --------
    >>> permuted(torch.ones(2, 3), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3])
    """
    order = torch.randperm(matrix.numel(), generator=generator, device=generator.device).to(matrix.device)
    return matrix.detach().flatten()[order].reshape(matrix.shape)


@contextmanager
def spending(module: nn.Module, draw: Callable[[], None]) -> Iterator[None]:
    """Draw the random numbers of the module's own pass before each forward pass inside the context.

    A pass with another matrix then uses the same dropout masks as the module's own pass.
    """
    handle = module.register_forward_pre_hook(lambda module, inputs: draw())
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def refuse_matrix(module: nn.Module, matrix: Tensor) -> Iterator[None]:
    """Raise InputError, as the ``using`` of an adapter whose modules cannot take a matrix."""
    raise InputError(
        f"a {type(module).__name__} is recorded as a layer with an exact backward pass, so it cannot take "
        "another feedback; leave it out of feedbacks, or give an adapter with using="
    )
    yield


def exact_layers(*types: type[nn.Module], weight_dims: tuple[str, str] = ("out", "in")) -> LayerAdapter:
    """Return the adapter of layers whose backward pass is autograd's own.

    Use it for layers that override ``forward``: the recorder cannot know their backward pass.

    Parameters
    ----------
    *types : module classes
        Their modules have a parameter ``weight`` and return one tensor.
    weight_dims : {("out", "in"), ("in", "out")}
        The meaning of the weight's first two axes, see `LayerAdapter`.

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


#: The adapter of modules that no other adapter takes. They count as layers, but are never read.
unknown_layers = LayerAdapter((), read_weight, lambda module: None, "unknown", refuse_matrix)


def adapter_of(module: nn.Module, adapters: Sequence[LayerAdapter]) -> LayerAdapter | None:
    """Return the first adapter that reads the module's weight, or None."""
    reading = (adapter for adapter in adapters if adapter.weight is not None)
    return next((adapter for adapter in reading if adapter.takes(module)), None)
