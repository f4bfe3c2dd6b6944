"""Normalize arguments that users may give in several forms: names and whole numbers."""

from collections.abc import Iterable
from math import inf
from operator import index
from typing import Any

__all__ = ["names_of", "whole_number"]


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
