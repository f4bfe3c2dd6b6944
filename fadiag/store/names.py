"""Names of a store's nodes, numbers of its records, and attributes that JSON can hold."""

import functools
import hashlib
import json
import numbers
import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, SupportsFloat, TypeAlias
from urllib.parse import quote, unquote

from fadiag.errors import InputError

__all__ = [
    "COORDINATES",
    "JSON",
    "MAX_KEY",
    "check_name",
    "check_number",
    "check_scalar",
    "check_whole",
    "clean_json",
    "layer_key",
    "layer_name",
]

JSON: TypeAlias = Any

#: Coordinates that every stream has, with their type.
COORDINATES = {"step": "int64", "wall_time": "float64", "epoch": "float64", "rows_valid": "int64"}
#: Bytes of the longest layer key.
MAX_KEY = 200
ROOT_LAYER = "(root)"

_NAME = re.compile(r"(?!c$)[A-Za-z][A-Za-z0-9_]{0,99}")


@functools.lru_cache(maxsize=2**14)  # asked for every array of every record
def layer_key(name: str) -> str:
    """Return the group name of a layer: its module name, percent-encoded, a root module's as ``(root)``.

    Keys longer than 200 bytes are cut and end in a hash; the true name stands in the group's attributes.

    Parameters
    ----------
    name : str
        As `torch.nn.Module.named_modules` gives it; ``""`` is the root module.

    Returns
    -------
    str
        ASCII, at most 200 bytes, safe as a folder's name.

    Examples
    --------
    >>> layer_key("encoder.0"), layer_key(""), layer_key("a/b"), layer_key("..")
    ('encoder.0', '(root)', 'a%2Fb', '%2E.')
    """
    if not name:
        return ROOT_LAYER
    key = quote(name, safe="()")
    # A name that would hide a file, climb a directory or meet a coordinate gets its first character encoded.
    if key[0] in "._" or key in {*COORDINATES, "zarr.json", "c"}:
        key = f"%{ord(key[0]):02X}{key[1:]}"
    if len(key) > MAX_KEY:
        key = f"{key[:180]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return key


def layer_name(key: str) -> str:
    """Return the module name of a layer key that was not cut.

    Parameters
    ----------
    key : str
        From `layer_key`.

    Returns
    -------
    str

    Examples
    --------
    >>> layer_name("a%2Fb"), layer_name("(root)")
    ('a/b', '')
    """
    return "" if key == ROOT_LAYER else unquote(key)


def check_name(kind: str, name: str) -> str:
    """Return a stream, signal or dimension name, or raise `InputError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} name {name!r}: use letters, digits and underscores, a letter first, at most 100, and not"
            " 'c', which is zarr's"
        )
    return name


def check_scalar(name: str) -> str:
    """Return the name of a scalar of a stream, or raise `InputError`."""
    check_name("scalar", name)
    if name in COORDINATES:
        raise InputError(f"scalar name {name!r} is that of a coordinate of every stream; give it another")
    return name


def check_number(what: str, value: Any) -> float:
    """Return one number, a numpy or torch scalar too, or raise `InputError` that names it."""
    try:
        plain = value.item() if hasattr(value, "item") else value  # of an array with one entry
        if isinstance(plain, SupportsFloat):  # which a text is not
            return float(plain)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    shown = " ".join(reprlib.repr(value).split())
    raise InputError(f"{what} is a {type(value).__name__}; give a number (tensor.item()), not {shown}")


def check_whole(what: str, value: Any) -> int:
    """Return one whole number, 0 or more, or raise `InputError` that names it."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**62:
        return int(value)
    raise InputError(f"{what} {reprlib.repr(value)}: give a whole number, 0 or more")


def clean_json(what: str, value: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a deep copy of attributes that JSON can hold, or raise `InputError` (a NaN, a numpy scalar)."""
    try:
        copy = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} is not plain JSON: {error}; convert it with float(), int() or str()"
        ) from None
    # json escapes what has no UTF-8, half a surrogate pair, and no reader takes the escape.
    for where, text in _texts(copy):
        if not _is_utf8(text):
            raise InputError(
                f"{what} is not plain JSON: {text!r}{where and f' at {where}'} has bytes that are not UTF-8;"
                " decode it with the encoding that it was written in, or take repr() of it"
            )
    return copy  # type: ignore[no-any-return]


def _texts(value: JSON, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a JSON value, keys too, behind its place (``'meta'['data']``)."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield where, key
            yield from _texts(below, f"{where}[{key!r}]" if where else repr(key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, f"{where}[{index}]")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
