"""Find the layers of a table that share a line, and write their names as one."""

import re
from collections.abc import Hashable, Iterator, Sequence

__all__ = ["fold_layers", "names_as_one"]

#: The fewest alike layers, and the fewest alike blocks of layers, that are folded. A small net stays whole.
_FEWEST_LAYERS, _FEWEST_BLOCKS = 4, 3
_LARGEST_BLOCK = 32


def fold_layers(names: Sequence[str], keys: Sequence[Hashable]) -> Iterator[slice]:
    """Yield the layers of each line: one layer, or all layers in the same place of alike blocks.

    Parameters
    ----------
    names : sequence of str
        In forward order.
    keys : sequence
        What each layer must have in common with the others on its line.

    Examples
    --------
    >>> names = ["h.0.a", "h.0.b", "h.1.a", "h.1.b", "h.2.a", "h.2.b", "top"]
    >>> [names[line] for line in fold_layers(names, ["a", "b", "a", "b", "a", "b", "a"])]
    [['h.0.a', 'h.1.a', 'h.2.a'], ['h.0.b', 'h.1.b', 'h.2.b'], ['top']]
    """
    in_blocks = [(key, re.sub(r"\d+", "#", name)) for name, key in zip(names, keys, strict=True)]
    start = 0
    while start < len(names):
        size, times = _repeats(keys[start:], in_blocks[start:])
        for place in range(start, start + size):
            yield slice(place, start + size * times, size)
        start += size * times


def _repeats(keys: Sequence[Hashable], in_blocks: Sequence[Hashable]) -> tuple[int, int]:
    """Return the size of the block that the layers begin with, and how often it comes; (1, 1) if once."""
    best = 1, 1
    for size in range(1, min(_LARGEST_BLOCK, len(keys) // 2) + 1):
        found = keys if size == 1 else in_blocks
        times = 1
        while found[size * times : size * (times + 1)] == found[:size]:
            times += 1
        enough = times >= (_FEWEST_LAYERS if size == 1 else _FEWEST_BLOCKS)
        if enough and size * times > best[0] * best[1]:
            best = size, times
    return best


def names_as_one(names: Sequence[str]) -> str:
    """Return the first and the last name with the number of names, and the parts that they share only once.

    Examples
    --------
    >>> names_as_one(["conv1", "conv2", "conv3"]), names_as_one(["h.0.mlp.c_fc", "h.1.mlp.c_fc"])
    ('conv1 ... conv3  (3)', 'h.{0 ... 1}.mlp.c_fc  (2)')
    >>> names_as_one(["conv1"])
    'conv1'
    """
    if len(names) == 1:
        return names[0]
    one, other = names[0].split("."), names[-1].split(".")
    shortest = min(len(one), len(other)) - 1
    head = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    tail = next((i for i in range(shortest - head) if one[-1 - i] != other[-1 - i]), shortest - head)
    if not head and not tail:
        return f"{names[0]} ... {names[-1]}  ({len(names)})"
    middle = (".".join(parts[head : len(parts) - tail]) for parts in (one, other))
    shared = ".".join([*one[:head], f"{{{' ... '.join(middle)}}}", *one[len(one) - tail :]])
    return f"{shared}  ({len(names)})"
