"""Backward hooks that the user's modules carry: each can put another gradient in the place of its own.

What such a hook does to a gradient is not known (it may only look at it), so a backward pass that shall be
the true one is made without them.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["has_backward_hooks", "without_backward_hooks"]

_KEPT = ("_backward_hooks", "_backward_pre_hooks")


def has_backward_hooks(module: nn.Module) -> bool:
    """Say whether a module itself has a backward hook or pre-hook."""
    return any(getattr(module, kind) for kind in _KEPT)


@contextmanager
def without_backward_hooks(model: nn.Module, keep: Collection[nn.Module] = ()) -> Iterator[None]:
    """Make forward passes inside whose backward pass calls no module's backward hook.

    Modules to ``keep`` keep theirs.
    """
    kept = [
        (module, kind, getattr(module, kind))
        for module in model.modules()
        for kind in _KEPT
        if module not in keep and getattr(module, kind)
    ]
    for module, kind, _ in kept:
        setattr(module, kind, OrderedDict())
    try:
        yield
    finally:
        for module, kind, hooks in kept:
            setattr(module, kind, hooks)
