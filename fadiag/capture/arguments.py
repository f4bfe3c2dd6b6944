"""Normalize arguments that users may give in several forms: names and whole numbers."""

from collections.abc import Callable, Iterable, Mapping
from math import inf
from operator import index
from reprlib import repr as short_repr
from typing import Any

from fadiag.errors import InputError

__all__ = ["call_text", "check_steps", "names_of", "whole_number"]


def names_of(given: Iterable[str]) -> tuple[str, ...]:
    """Return the given names, each once; a string is one name, not a sequence of letters.

    Examples
    --------
    >>> names_of("error"), names_of(["error", "input", "error"])
    (('error',), ('error', 'input'))
    """
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def whole_number(given: Any, least: float = -inf) -> int | None:
    """Return a whole number (an ``int``, a numpy integer, a tensor with one integer) as an ``int``.

    Return None for any other value, for a number below ``least``, and for a boolean, which is likely a slip.

    Examples
    --------
    >>> import numpy as np
    >>> whole_number(np.int64(3), 1), whole_number(True, 0), whole_number(2.0, 0), whole_number(0, 1)
    (3, None, None, None)
    """
    if isinstance(given, bool) or "bool" in str(getattr(given, "dtype", "")):
        return None
    try:
        number = index(given)
    except TypeError:
        return None
    return number if number >= least else None


def check_steps(steps: Any, first_step: Any) -> None:
    """Raise `InputError` if the updates to come, or those made before, are not a number of updates."""
    if steps is not None and whole_number(steps, 1) is None:
        raise InputError(f"steps is {steps!r}; give the number of updates to come, at least 1")
    if whole_number(first_step, 0) is None:
        raise InputError(f"first_step is {first_step!r}; give the number of updates made before, at least 0")


def call_text(call: Callable[..., Any], given: Iterable[str], options: Mapping[str, Any]) -> str:
    """Return the call that makes an object, with those options that are not the defaults, as its repr.

    Examples
    --------
    >>> from fadiag.capture import Live
    >>> call_text(Live.__init__, [], {"every": 10, "reduction": "auto"})
    'Live(every=10)'
    """
    defaults = getattr(call, "__kwdefaults__", {})
    changed = (f"{name}={short_repr(x)}" for name, x in options.items() if repr(x) != repr(defaults[name]))
    return f"{call.__qualname__.partition('.')[0]}({', '.join((*given, *changed))})"
