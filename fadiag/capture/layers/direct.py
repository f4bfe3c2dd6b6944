"""Find modules that send the output error directly to a hidden layer (DFA, DRTP), and make their adapters.

The feedback F has shape (outputs, consumer's input), and credits one layer: the sending module itself, or the
layer whose output the sending module reads. The consumer is the layer that reads the credited output.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter, read_weight
from fadiag.capture.layers.backward_hooks import without_backward_hooks
from fadiag.errors import InputError

__all__ = ["DirectSender", "direct_hooks", "direct_identity", "direct_layers", "find_senders"]


@dataclass(frozen=True)
class DirectSender:
    """A module that sends direct feedback, with its name and adapter."""

    name: str
    module: nn.Module
    adapter: LayerAdapter

    @property
    def feedback(self) -> Tensor:
        """The feedback F that the adapter reads, of shape (outputs, *consumer's input)."""
        feedback = self.adapter.feedback(self.module)
        assert feedback is not None  # find_senders skips modules without one
        return feedback

    def using(self, matrix: Tensor | None) -> AbstractContextManager[None]:
        """Replace F for forward passes in this context; None makes the backward pass exact."""
        if matrix is None:
            assert self.adapter.exact is not None
            return self.adapter.exact(self.module)
        own = self.feedback
        return self.adapter.using(self.module, matrix.to(own).reshape(own.shape))


def find_senders(model: nn.Module, adapters: Sequence[LayerAdapter]) -> tuple[DirectSender, ...]:
    """Return the modules that send direct feedback, in the model's order.

    Raises
    ------
    InputError
        A feedback is not a matrix.
    """
    direct = [adapter for adapter in adapters if adapter.is_direct]
    found = []
    for name, module in model.named_modules():
        adapter = next((adapter for adapter in direct if adapter.takes(module)), None)
        feedback = None if adapter is None else adapter.feedback(module)
        if adapter is None or feedback is None:
            continue
        if not isinstance(feedback, Tensor) or feedback.dim() < 2:
            what = f"of shape {tuple(feedback.shape)}" if isinstance(feedback, Tensor) else type(feedback)
            raise InputError(
                f"the direct feedback of module {name!r} is {what}, not a matrix (outputs, consumer's input)"
            )
        found.append(DirectSender(name, module, adapter))
    return tuple(found)


def direct_identity(*types: type[nn.Module], feedback: str, transposed: bool = False) -> LayerAdapter:
    """Return the adapter of modules that return their input and send direct feedback backward.

    Such a module follows a gate and calls an autograd function. In the forward pass the function is the
    identity; in the backward pass it returns the output error times F.

    Parameters
    ----------
    *types : module classes
        Their forward pass returns its first argument.
    feedback : str
        The attribute that holds F.
    transposed : bool
        Whether the attribute holds F as (consumer's input, outputs).

    Examples
    --------
    >>> class TrainingHook(nn.Module):
    ...     pass
    >>> direct_identity(TrainingHook, feedback="fixed_fb_weights").feedback_kind
    'direct'
    """
    exact = partial(_with_forward, forward=_first_argument)
    return replace(_direct(types, None, feedback, transposed, exact), passes_on=True)


def direct_layers(
    *types: type[nn.Module], feedback: str, base: type[nn.Module], transposed: bool = False
) -> LayerAdapter:
    """Return the adapter of layers that send the output error times F to the layer below.

    Parameters
    ----------
    *types : module classes
        Their modules have a parameter ``weight``. They are the consumers: F credits the layer below.
    feedback : str
        The attribute that holds F. A layer whose attribute is None has an exact backward pass.
    base : module class
        The class with the same forward pass and autograd's own backward pass, for example ``nn.Linear``.
    transposed : bool
        Whether the attribute holds F as (consumer's input, outputs).

    Examples
    --------
    >>> class DFALinear(nn.Linear):
    ...     pass
    >>> direct_layers(DFALinear, feedback="F", base=nn.Linear).credits
    'input'
    """
    return _direct(types, read_weight, feedback, transposed, partial(_with_forward, forward=base.forward))


def direct_hooks(*types: type[nn.Module], feedback: str, transposed: bool = False) -> LayerAdapter:
    """Return the adapter of modules whose backward hook sends the output error times F to their input.

    Parameters
    ----------
    *types : module classes
        Modules without the attribute are ignored.
    feedback : str
        The attribute of the module that holds F for the hook.
    transposed : bool
        Whether the attribute holds F as (consumer's input, outputs).

    Examples
    --------
    >>> direct_hooks(nn.Linear, feedback="F").weight is None
    True
    """
    return _direct(types, None, feedback, transposed, without_backward_hooks)


def _direct(
    types: tuple[type[nn.Module], ...],
    weight: Callable[[nn.Module], Tensor] | None,
    name: str,
    transposed: bool,
    exact: Callable[[nn.Module], AbstractContextManager[None]],
) -> LayerAdapter:
    def feedback(module: nn.Module) -> Tensor | None:
        held: Tensor | None = getattr(module, name, None)
        return held.transpose(0, 1) if transposed and held is not None else held

    def using(module: nn.Module, matrix: Tensor) -> AbstractContextManager[None]:
        return _with_attribute(module, name, matrix.transpose(0, 1) if transposed else matrix)

    return LayerAdapter(types, weight, feedback, "direct", using, exact=exact)


@contextmanager
def _with_attribute(module: nn.Module, name: str, tensor: Tensor) -> Iterator[None]:
    """Replace a parameter, buffer or attribute of a module by a tensor inside the context."""
    held: Any = next(table for table in (module._parameters, module._buffers, vars(module)) if name in table)
    own, held[name] = held[name], tensor
    try:
        yield
    finally:
        held[name] = own


@contextmanager
def _with_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the forward pass of a module inside the context."""
    own = vars(module).get("forward")
    module.__dict__["forward"] = partial(forward, module)
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own


def _first_argument(module: nn.Module, first: Any, *others: Any, **options: Any) -> Any:
    return first
