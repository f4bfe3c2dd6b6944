"""Read the functions and modules that the user declares as a gate, or as passing their input on."""

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Literal

import torch
from torch import nn

from fadiag.capture.layers.selection import RecordedLayer, is_gate_with_matrix
from fadiag.capture.tracing.op_kinds import name_of
from fadiag.errors import InputError

__all__ = ["DeclaredOps", "declare_ops"]

_Declared = Literal["pass", "gate"]


@dataclass(frozen=True)
class DeclaredOps:
    """The user's declarations of operations that fadiag does not know; see `declare_ops`.

    Attributes
    ----------
    named : mapping of str
        torch's functions, by their name in a trace.
    autograd : mapping of autograd function
    code : mapping of code object
        Functions written in Python. Torch reports only the operations inside, so the trace looks for the
        function on the stack.
    modules : mapping of nn.Module
        The modules themselves, not their classes.
    senders : frozenset of nn.Module
        The modules that send direct feedback.
    """

    named: Mapping[str, _Declared] = field(default_factory=dict)
    autograd: Mapping[Any, _Declared] = field(default_factory=dict)
    code: Mapping[CodeType, _Declared] = field(default_factory=dict)
    modules: Mapping[nn.Module, _Declared] = field(default_factory=dict)
    senders: frozenset[nn.Module] = frozenset()

    def of_node(self, grad_fn: Any) -> tuple[str, _Declared] | None:
        """Return the name and kind of the autograd function behind a node of autograd's graph."""
        function: Any = getattr(grad_fn, "_forward_cls", None)
        kind = self.autograd.get(function)
        return None if kind is None else (function.__name__, kind)

    def on_stack(self) -> FrameType | None:
        """Return the outermost frame on the stack that runs a declared function."""
        found, frame = None, sys._getframe(1) if self.code else None
        while frame is not None:
            if frame.f_code in self.code:
                found = frame
            frame = frame.f_back
        return found


def declare_ops(
    model: nn.Module,
    passes: Iterable[Any] = (),
    gates: Iterable[Any] = (),
    layers: Sequence[RecordedLayer] = (),
) -> DeclaredOps:
    """Read the arguments ``passes`` and ``gates`` of a recorder.

    Parameters
    ----------
    model : nn.Module
    passes, gates : iterable
        Autograd functions or their ``apply``, functions, and module classes.
    layers : sequence of RecordedLayer
        The recorded layers. The adapter of a module that sends them direct feedback may declare that the
        module passes its input on.

    Raises
    ------
    InputError
        An entry is none of these, or is in both. The model has no module of a class, or a module of the class
        contains a recorded layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    >>> declare_ops(model, gates=[nn.Tanh]).modules
    {Tanh(): 'gate'}
    """
    senders = [layer.sender for layer in layers if layer.sender is not None]
    recorded = {layer.module for layer in layers}
    known: dict[nn.Module, _Declared] = {m: "gate" for m in model.modules() if is_gate_with_matrix(m)}
    known |= {s.module: "pass" for s in senders if s.adapter.passes_on}
    own = {module: kind for module, kind in known.items() if module not in recorded}
    ops = DeclaredOps({}, {}, {}, own, frozenset(s.module for s in senders))
    kinds: dict[Any, _Declared] = {}
    given: tuple[tuple[str, _Declared, Iterable[Any]], ...] = (
        ("passes", "pass", passes),
        ("gates", "gate", gates),
    )
    for option, kind, entries in given:
        for entry in _listed(option, entries):
            key = _declare(ops, model, option, entry, kind)
            if kinds.setdefault(key, kind) != kind:
                raise InputError(f"{entry!r} is in passes and in gates; leave it out of one")
    for module, kind in ops.modules.items():
        if not recorded.isdisjoint(module.modules()):
            raise InputError(
                f"a {type(module).__name__} has a recorded layer inside, so it is no {kind} behind a layer; "
                "give the class of the module without layers"
            )
    return ops


def _listed(option: str, entries: Any) -> tuple[Any, ...]:
    if isinstance(entries, Iterable):
        return tuple(entries)
    raise InputError(
        f"{option} is {entries!r}; give a tuple, {option}=({getattr(entries, '__name__', '...')},)"
    )


def _declare(ops: Any, model: nn.Module, option: str, entry: Any, kind: _Declared) -> Any:
    """Add an entry to the operations, and return its key there."""
    function = getattr(entry, "__self__", None) if getattr(entry, "__name__", "") == "apply" else entry
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        ops.autograd[function] = kind
        return function
    if isinstance(entry, type) and issubclass(entry, nn.Module):
        modules = [module for module in model.modules() if isinstance(module, entry)]
        if not modules:
            raise InputError(f"{option} has {entry.__name__}, and the model has no such module; leave it out")
        ops.modules.update(dict.fromkeys(modules, kind))
        return entry
    if inspect.isfunction(entry) and not entry.__module__.startswith("torch"):
        ops.code[entry.__code__] = kind
        return entry.__code__
    if not callable(entry) or isinstance(entry, (type, nn.Module)) or not (name := name_of(entry)):
        raise InputError(
            f"{option} has {entry!r}; give autograd functions or their apply, functions, or module classes"
        )
    ops.named[name] = kind
    return name
