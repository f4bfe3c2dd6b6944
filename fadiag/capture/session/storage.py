"""How the records of a run reach the disk."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Storage"]


@dataclass(frozen=True)
class Storage:
    """Options of the writer, as `fadiag.store.RunWriter` takes them.

    Parameters
    ----------
    buffer_bytes : int
        Bytes that may wait for the disk. One record of a stream must fit.
    on_full : {"block", "skip"}
        With full buffers, wait, or leave the record out. The store counts what was left out.
    on_failure : {"raise", "warn"}
        If the disk is full or gone, raise a `StoreError` at the next call, or warn once and record nothing
        more.
    commit_every : float
        Seconds between commits.

    Examples
    --------
    >>> Storage(on_failure="warn").buffer_bytes
    134217728
    """

    buffer_bytes: int = 128 * 2**20
    on_full: Literal["block", "skip"] = "block"
    on_failure: Literal["raise", "warn"] = "raise"
    commit_every: float = 1.0
