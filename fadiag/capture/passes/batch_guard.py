"""What a probe's batch holds, so that a change to it is seen.

A batch is not copied: it may be large. Each tensor counts the in-place operations on it.
"""

import dataclasses
from collections import UserDict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Contents", "change_between", "contents_of"]

#: By place in the batch, what is there and its number of in-place operations.
Contents = Mapping[str, tuple[Any, int]]


def contents_of(batch: Any) -> Contents:
    """Return what a batch holds, in tuples, lists, dicts, dataclasses and other objects, to any depth.

    Of an object that is no dataclass only the tensors count: it may keep notes of its own.

    Examples
    --------
    >>> list(contents_of({"x": [1, 2], "y": 3}))
    ["batch['x'][0]", "batch['x'][1]", "batch['y']"]
    """
    return dict(_walk(batch, "batch", set()))


def change_between(before: Contents, after: Contents) -> str:
    """Say what was changed first from one look at a batch to the next; "" where nothing was.

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
        if after[place][0] is not value:
            return f"{place} was replaced"
        if after[place][1] != count:
            return f"{place} was changed in place"
    return next((f"{place} was added" for place in after if place not in before), "")


def _walk(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, tuple[Any, int]]]:
    if isinstance(value, Tensor):
        yield place, (value, 0 if value.is_inference() else value._version)
    elif isinstance(value, (Iterator, nn.Module, type)):
        yield place, (value, 0)
    elif isinstance(value, (dict, UserDict, list, tuple)) or hasattr(value, "__dict__"):
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, (dict, UserDict)):
            for key, item in value.items():
                yield from _walk(item, f"{place}[{key!r}]", seen)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                yield from _walk(item, f"{place}[{i}]", seen)
        else:
            for name, item in list(vars(value).items()):
                for found in _walk(item, f"{place}.{name}", seen):
                    if dataclasses.is_dataclass(value) or isinstance(found[1][0], Tensor):
                        yield found
    else:
        yield place, (value, 0)
