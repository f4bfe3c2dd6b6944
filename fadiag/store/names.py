"""Check the names of streams, layers, signals, scalars and dimensions that a store holds."""

import functools
import hashlib
import re
from urllib.parse import quote

from fadiag.errors import InputError

__all__ = ["COORDINATES", "MAX_KEY", "check_name", "check_scalar", "layer_key", "signal_path"]

#: The coordinates of every stream, with their types.
COORDINATES = {"step": "int64", "wall_time": "float64", "epoch": "float64", "rows_valid": "int64"}
#: Length of the longest layer key in bytes.
MAX_KEY = 200
ROOT_LAYER = "(root)"

_NAME = re.compile(r"(?!c$)[A-Za-z][A-Za-z0-9_]{0,99}")


@functools.lru_cache(maxsize=2**14)  # called for every array of every record
def layer_key(name: str) -> str:
    """Return the name of a layer's group: its percent-encoded module name, or ``(root)`` for a root module.

    A key longer than 200 bytes is cut and ends in a hash. The group's attribute ``name`` holds the true name.

    Parameters
    ----------
    name : str
        The name from `torch.nn.Module.named_modules`; ``""`` is the root module.

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
    # Encode the first character if the name would be a hidden file, a parent folder or a coordinate.
    if key[0] in "._" or key in {*COORDINATES, "zarr.json", "c"}:
        key = f"%{ord(key[0]):02X}{key[1:]}"
    if len(key) > MAX_KEY:
        key = f"{key[:180]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return key


def signal_path(stream: str, layer: str, signal: str) -> str:
    """Return the path of a signal in the store; layer ``""`` means the stream itself."""
    return "/".join((stream, layer_key(layer), signal) if layer else (stream, signal))


def check_name(kind: str, name: str) -> str:
    """Return the name of a stream, signal or dimension, or raise `InputError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} name {name!r}: use letters, digits and underscores, a letter first, at most 100, and not"
            " 'c', which is zarr's"
        )
    return name


def check_scalar(name: str) -> str:
    """Return the name of a scalar of a stream, or raise `InputError`.

    Examples
    --------
    >>> check_scalar("test_accuracy")
    'test_accuracy'
    >>> check_scalar("epoch")
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: scalar name 'epoch' is a coordinate of every stream; give it another
    """
    check_name("scalar", name)
    if name in COORDINATES:
        raise InputError(f"scalar name {name!r} is a coordinate of every stream; give it another")
    return name
