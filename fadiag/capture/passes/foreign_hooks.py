"""Protect a probe's pass from other libraries' forward hooks, which may not expect that pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from fadiag.capture.passes.error_context import is_out_of_memory
from fadiag.capture.warn import warn_user
from fadiag.errors import FadiagError

__all__ = ["guard_forward_hooks"]

#: The attributes of a module in which torch stores its forward hooks and their options.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_FLAGS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")


@contextmanager
def guard_forward_hooks(model: nn.Module) -> Iterator[None]:
    """Skip each forward hook that raises in a pass inside, and warn with its name.

    Such a hook may expect one pass per update, or batches of one size. All other hooks run, because their
    results are a part of the model. If a pass removes or attaches hooks, they are restored afterwards.
    """
    held = [
        (getattr(module, kind), dict(getattr(module, kind)))
        for module in model.modules()
        for kind in (*_HOOKS, *_FLAGS)
        if module._forward_hooks or module._forward_pre_hooks
    ]
    for name, module in model.named_modules():
        for kind in _HOOKS:
            hooks = getattr(module, kind)
            for key, hook in hooks.items():
                hooks[key] = _guarded(hook, name)
    try:
        yield
    finally:
        for hooks, before in held:
            hooks.clear()
            hooks.update(before)


def _guarded(hook: Callable[..., Any], layer: str) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        try:
            return hook(*given, **named)
        except FadiagError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            warn_user(
                f"the forward hook {_name_of(hook)} of module {layer or '(root)'!r} raised "
                f"{type(error).__name__}: {error}, and was left out of the probe's pass; if it changes the "
                "output, the signals are not those of the model that trains. "
                "fadiag.capture.is_out_of_band() is true in a pass that is not part of the training"
            )
            return None

    return call


def _name_of(hook: Callable[..., Any]) -> str:
    while isinstance(hook, partial):
        hook = hook.func
    kind = type(hook)
    return f"{hook.__module__}.{getattr(hook, '__qualname__', kind.__qualname__)}"
