"""Check the numbers and attributes that a caller gives to a store."""

import json
import numbers
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat, TypeAlias

from fadiag.errors import InputError

__all__ = ["JSON", "check_number", "check_whole", "clean_json"]

JSON: TypeAlias = Any


def check_number(what: str, value: Any) -> float:
    """Return a number or a numpy or torch scalar as a float, or raise `InputError` that names it.

    Examples
    --------
    >>> import numpy as np
    >>> check_number("loss", np.float32(0.5))
    0.5
    >>> check_number("loss", "0.5")
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: loss is a str; give a number (tensor.item()), not '0.5'
    """
    try:
        plain = value.item() if hasattr(value, "item") else value  # an array with one entry
        if isinstance(plain, SupportsFloat):  # excludes text
            return float(plain)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    shown = " ".join(reprlib.repr(value).split())
    raise InputError(f"{what} is a {type(value).__name__}; give a number (tensor.item()), not {shown}")


def check_whole(what: str, value: Any) -> int:
    """Return a whole number of at least 0, or raise `InputError` that names it."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**62:
        return int(value)
    raise InputError(f"{what} {reprlib.repr(value)}: give a whole number, 0 or more")


def clean_json(what: str, value: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a deep copy of attributes, or raise `InputError` if they are not plain JSON (NaN is not)."""
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is not plain JSON: {error}; convert it with float(), int() or str()"
        ) from None
    copy: dict[str, JSON] = json.loads(text)
    # json escapes half a surrogate pair, which UTF-8 cannot encode, and no reader accepts that escape.
    if "\\ud" in text:
        _refuse_surrogates(what, copy)
    return copy


def _refuse_surrogates(what: str, value: JSON) -> None:
    for place, text in _texts(value):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{what} is not plain JSON: {text!r}{place and f' at {place}'} has bytes that are not UTF-8;"
                " decode it with the encoding that it was written in, or take repr() of it"
            ) from None


def _texts(value: JSON, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, text) for each text and key of a JSON value; a place looks like ``'meta'['data']``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield place, key
            yield from _texts(below, f"{place}[{key!r}]" if place else repr(key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, f"{place}[{index}]")
