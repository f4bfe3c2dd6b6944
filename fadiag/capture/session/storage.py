"""How the records of a run reach the disk."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Storage"]


@dataclass(frozen=True)
class Storage:
    """Options of the writer, as `fadiag.store.RunWriter` takes them.

    Parameters
    ----------
    buffer_bytes : int, optional
        Bytes that may wait for the disk. One record of a stream must fit. By default as much as the largest
        record takes, at least 128 MiB and at most 2 GiB.
    on_full : {"block", "skip"}
        With full buffers, wait, or leave the record out. The store counts what was left out.
    on_failure : {"raise", "warn"}
        If the disk is full or gone, raise a `StoreError` at the next call, or warn once and record nothing
        more.
    commit_every : float
        Seconds between commits.

    Examples
    --------
    >>> Storage(buffer_bytes=10**9).on_failure
    'raise'
    """

    buffer_bytes: int | None = None
    on_full: Literal["block", "skip"] = "block"
    on_failure: Literal["raise", "warn"] = "raise"
    commit_every: float = 1.0
