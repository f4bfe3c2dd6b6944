"""Detect changes to a probe's batch between two passes.

A batch may be large, so it is not copied. The check compares each tensor's count of in-place operations
instead.
"""

import dataclasses
from collections import UserDict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Contents", "change_between", "contents_of", "describe_contents"]

#: The value at each place in the batch, with its number of in-place operations.
Contents = Mapping[str, tuple[Any, int]]


def contents_of(batch: Any) -> Contents:
    """Return the values in a batch of tuples, lists, dicts, dataclasses and other objects, to any depth.

    Only the tensors of an object that is not a dataclass count, because it may change its other attributes.

    Examples
    --------
    >>> list(contents_of({"x": [1, 2], "y": 3}))
    ["batch['x'][0]", "batch['x'][1]", "batch['y']"]
    """
    return dict(_walk(batch, "batch", set()))


def change_between(before: Contents, after: Contents) -> str:
    """Return the first change between two contents of a batch in words; "" if nothing changed.

    Examples
    --------
    >>> batch = {"x": 1, "y": 2}
    >>> before = contents_of(batch)
    >>> del batch["y"]
    >>> change_between(before, contents_of(batch))
    "batch['y'] was removed"
    """
    for place, (value, count) in before.items():
        if place not in after:
            return f"{place} was removed"
        now, number = after[place]
        if now is not value or number != count:
            return f"{place} was {'replaced' if now is not value else 'changed in place'}"
    return next((f"{place} was added" for place in after if place not in before), "")


def describe_contents(contents: Contents, most: int = 4) -> str:
    """Return the types and shapes of the first items of a batch.

    Examples
    --------
    >>> import torch
    >>> describe_contents(contents_of((torch.zeros(8, 4), 3)))
    '(float32 8×4, int)'
    """
    texts = [_describe(value) for value, _ in contents.values()]
    shown = [*texts[:most], *(["..."] if len(texts) > most else [])]
    return shown[0] if len(texts) == 1 else f"({', '.join(shown)})"


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = "×".join(map(str, value.shape))
    return f"{str(value.dtype).removeprefix('torch.')} {shape}".rstrip()


def _walk(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, tuple[Any, int]]]:
    parts = _parts_of(value)
    if parts is None:
        count = value._version if isinstance(value, Tensor) and not value.is_inference() else 0
        yield place, (value, count)
    elif id(value) not in seen:
        seen.add(id(value))
        plain = isinstance(value, (dict, UserDict, list, tuple)) or dataclasses.is_dataclass(value)
        for name, item in parts:
            yield from (x for x in _walk(item, place + name, seen) if plain or isinstance(x[1][0], Tensor))


def _parts_of(value: Any) -> list[tuple[str, Any]] | None:
    """Return the parts of a container with their names; None if the value is not a container."""
    if isinstance(value, (Tensor, Iterator, nn.Module, type)):
        return None
    if isinstance(value, (dict, UserDict)):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    return [(f".{name}", item) for name, item in vars(value).items()] if hasattr(value, "__dict__") else None
