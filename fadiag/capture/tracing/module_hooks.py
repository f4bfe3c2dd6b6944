"""Hooks that stay behind when the module that carries them is copied or saved."""

from collections.abc import Callable
from typing import Any

__all__ = ["Hook"]


class Hook:
    """A hook of a module that no copy of the module takes along.

    A model may be saved or copied at any time, while it is listened to, too: what arrives there, by pickle or
    ``copy.deepcopy``, is a hook that does nothing and holds nothing of the recorder.

    Parameters
    ----------
    call : callable, optional
        Called with what the module gives a hook; it returns nothing.

    Examples
    --------
    >>> import copy
    >>> hook = Hook(print)
    >>> hook("heard")
    heard
    >>> copy.deepcopy(hook)("heard")
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, *given: Any) -> None:
        """Pass on what the module gives."""
        if self._call is not None:
            self._call(*given)

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        """Leave behind whom to call."""
        return Hook, ()
