"""Merge several orders of labels into one, for the layers of runs of different depths."""

from collections.abc import Iterable, Sequence

__all__ = ["merge_orders"]


def merge_orders(orders: Iterable[Sequence[str]]) -> list[str]:
    """Return all labels in one order: the longest list, with others inserted after their predecessors.

    If networks differ in depth, the output layer stays last. If orders contradict each other, the longer one
    wins, or the first of equal length.

    Examples
    --------
    >>> merge_orders([["fc1", "out"], ["fc1", "fc2", "out"]])
    ['fc1', 'fc2', 'out']
    """
    merged: list[str] = []
    for order in sorted(orders, key=len, reverse=True):
        place = 0
        for label in order:
            if label not in merged:
                merged.insert(place, label)
            place = max(place, merged.index(label) + 1)
    return merged
