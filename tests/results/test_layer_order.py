"""Layers of several runs in one forward order."""

import itertools

import pytest

from fadiag.results.layer_order import merge_orders


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        ([], []),
        ([["fc1", "out"], ["fc1", "fc2", "fc3", "out"]], ["fc1", "fc2", "fc3", "out"]),
        ([["a", "c"], ["b", "c"], ["a", "b", "c"]], ["a", "b", "c"]),
        ([["fc1", "out", "aux"], ["fc1", "fc1@1", "out"]], ["fc1", "fc1@1", "out", "aux"]),
        ([["stem", "fc"], ["fc", "out"], ["fc"]], ["stem", "fc", "out"]),
    ],
)
def test_orders_of_any_depth_are_one(orders, merged) -> None:
    for same in itertools.permutations(orders):
        assert merge_orders(same) == merged


def test_where_orders_contradict_the_longer_one_holds_then_the_first() -> None:
    assert merge_orders([["b", "a"], ["a", "b", "c"]]) == ["a", "b", "c"]
    assert merge_orders([["b", "a"], ["a", "b"]]) == ["b", "a"]
    # What only the other has comes behind all that it follows.
    assert merge_orders([["a", "b", "c"], ["c", "a", "x"]]) == ["a", "b", "c", "x"]
