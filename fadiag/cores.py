"""Count the processors that this process may use."""

import os

__all__ = ["available_cores"]


def available_cores() -> int:
    """Return the number of processors that this process may run on, at least 1.

    If the system can bind a process to some processors (Linux), only those count.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
