"""Starting, writing, closing and opening a store take work in proportion to its number of arrays.

The work is counted in executed lines of Python, on all threads, so that no clock and no load of the machine
plays a part.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from fadiag.store import ArraySpec, RunWriter, inspect_run, open_run, verify_run

SIGNALS = tuple(f"x{index}" for index in range(5))
VALUES = np.zeros((4, 3), np.float32)


@contextmanager
def counted(lines: dict[str, int], name: str) -> Iterator[None]:
    """Add up the lines that are executed within, on this thread and on those that it starts."""

    def count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        lines[name] = lines.get(name, 0) + 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    threading.settrace(count)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


def lines_of(path: Path, layers: int) -> dict[str, int]:
    """Return how many lines each part of a run's life takes."""
    lines: dict[str, int] = {}
    with counted(lines, "declare"):
        writer = RunWriter(path, manifest={}, commit_every=3600)
        writer.declare_stream("s", attrs={})
        for layer in range(layers):
            for signal in SIGNALS:
                spec = ArraySpec(("sample", "out"), (4, 3), "float32")
                writer.declare("s", f"layer.{layer}", signal, spec, layer_attrs={"order": layer})
    with counted(lines, "write"):
        for step in range(2):
            record = {(f"layer.{layer}", signal): VALUES for layer in range(layers) for signal in SIGNALS}
            writer.append("s", step, record, extra={"loss": 1.0})
        writer.close()
    for read in (open_run, inspect_run, verify_run):
        with counted(lines, read.__name__):
            read(path)  # type: ignore[operator]
    with counted(lines, "resume"):
        RunWriter(path, manifest={}, resume=True, commit_every=3600).close()
    return lines


def test_twice_the_arrays_take_twice_the_work(tmp_path: Path) -> None:
    lines_of(tmp_path / "warm.zarr", 2)  # what is imported and cached at the first call
    once = lines_of(tmp_path / "once.zarr", 60)
    twice = lines_of(tmp_path / "twice.zarr", 120)
    ratios = {name: twice[name] / once[name] for name in once}
    assert all(1.8 < ratio < 2.1 for ratio in ratios.values()), ratios
