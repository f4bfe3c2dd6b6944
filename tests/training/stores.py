"""Compare the stores of two runs byte by byte."""

from pathlib import Path

import numpy as np

from fadiag.store import open_run


def numbers(store: Path) -> dict[str, np.ndarray]:
    """Every variable of a store but the clock's."""
    tree = open_run(store).load()
    return {
        f"{node.path}/{name}": array.values
        for node in tree.subtree
        for name, array in node.variables.items()
        if name != "wall_time"
    }


def assert_same(one: Path, other: Path) -> None:
    first, second = numbers(one), numbers(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype, key
        assert value.tobytes() == second[key].tobytes(), key
