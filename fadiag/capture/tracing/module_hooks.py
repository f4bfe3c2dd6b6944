"""Attach forward hooks that report the calls of layers to a trace."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.tracing.trace import Trace

__all__ = ["Hook", "attach_hooks", "trace_calls"]


class Hook:
    """A hook that does nothing in copies of its module.

    The user may save or copy a model while hooks are attached. In a copy made by pickle or ``copy.deepcopy``,
    the hook does nothing and holds no reference to the recorder.

    Parameters
    ----------
    call : callable, optional
        Receives the hook's arguments and returns nothing.

    Examples
    --------
    >>> import copy
    >>> hook = Hook(print)
    >>> hook("called")
    called
    >>> copy.deepcopy(hook)("called")
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, *given: Any) -> None:
        """Call the callable with the arguments."""
        if self._call is not None:
            self._call(*given)

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        """Copy the hook without its callable."""
        return Hook, ()


def attach_hooks(
    layers: Sequence[RecordedLayer],
    others: Sequence[RecordedLayer],
    running: Callable[[], Trace | None],
    declared: Iterable[nn.Module] = (),
) -> list[RemovableHandle]:
    """Attach hooks that report each call of a layer or of a declared module to the running trace.

    Parameters
    ----------
    layers : sequence of RecordedLayer
    others : sequence of RecordedLayer
        The layers whose calls are only counted, not recorded.
    running : callable
        Returns the running trace, or None.
    declared : iterable of nn.Module
        The modules that the user declared as a gate, or as passing their input on.
    """

    def on_call(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.on_layer_call(layer, inputs, output)

    def on_other_call(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.count_layer_call(layer, inputs, output)

    def on_declared_call(module: nn.Module, inputs: Any) -> None:
        if (trace := running()) is not None:
            trace.enter_declared(module, inputs)

    def on_declared_output(module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.leave_declared(module, output)

    handles: list[RemovableHandle] = []
    for module in declared:
        handles.append(module.register_forward_pre_hook(Hook(on_declared_call)))
        handles.append(module.register_forward_hook(Hook(on_declared_output)))
    hooks = [*((layer, on_call) for layer in layers), *((layer, on_other_call) for layer in others)]
    handles += [layer.module.register_forward_hook(Hook(partial(hook, layer))) for layer, hook in hooks]
    return handles


@contextmanager
def trace_calls(
    model: nn.Module,
    layers: Sequence[RecordedLayer],
    signals: Collection[str],
    *,
    others: Sequence[RecordedLayer] = (),
    save_edges: bool = False,
    ops: DeclaredOps | None = None,
) -> Iterator[Trace]:
    """Trace the forward pass of a model inside the context.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of RecordedLayer
    signals : collection of str
        The signals to save.
    others : sequence of RecordedLayer
        The layers whose calls are only counted, not recorded.
    save_edges : bool
        Whether to save the places of the layers' outputs and activations in autograd's graph.
    ops : DeclaredOps, optional
        The user's declarations of unknown operations.
    """
    ops = ops or DeclaredOps()
    trace = Trace(signals, save_edges=save_edges, ops=ops)

    def on_model_output(module: nn.Module, inputs: Any, output: Any) -> None:
        trace.leave_model(output)

    handles = attach_hooks(layers, others, lambda: trace, ops.modules)
    handles.append(model.register_forward_pre_hook(lambda module, inputs: trace.enter_model()))
    handles.append(model.register_forward_hook(on_model_output))
    try:
        with trace:
            yield trace
    finally:
        trace.forget_tensors()
        for handle in handles:
            handle.remove()
