"""Find the backward hooks on the user's modules, and switch them off for an exact backward pass.

A backward hook can replace a gradient. fadiag cannot know whether a hook does so or only reads the gradient,
so the exact backward pass runs without such hooks.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["has_backward_hooks", "without_backward_hooks"]

_TABLES = ("_backward_hooks", "_backward_pre_hooks")


def has_backward_hooks(module: nn.Module) -> bool:
    """Return whether a module itself has a backward hook or pre-hook."""
    return any(getattr(module, kind) for kind in _TABLES)


@contextmanager
def without_backward_hooks(model: nn.Module, *, keep: Collection[nn.Module] = ()) -> Iterator[None]:
    """Switch off all backward hooks for the passes inside, except those of the modules in ``keep``."""
    hidden = [
        (module, kind, getattr(module, kind))
        for module in model.modules()
        for kind in _TABLES
        if module not in keep and getattr(module, kind)
    ]
    for module, kind, _ in hidden:
        setattr(module, kind, OrderedDict())
    try:
        yield
    finally:
        for module, kind, hooks in hidden:
            setattr(module, kind, hooks)
