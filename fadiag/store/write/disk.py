"""Describe disk problems: too little room for a run, or a failed write."""

import os
from collections.abc import Iterable
from pathlib import Path

from fadiag.store.lock import MovedError
from fadiag.store.names import COORDINATES
from fadiag.store.write.recording import Recording
from fadiag.store.write.stream import StreamState

__all__ = ["RESUME", "describe_failure", "describe_shortage"]

#: How to continue a store, with the recorder or with the lower-level writer.
RESUME = "go on in it with if_exists='resume' (of RunWriter: resume=True; record_arrays needs another path)"


def describe_shortage(path: Path, streams: Iterable[StreamState]) -> str | None:
    """Return a message if the planned records do not fit on the disk, else None.

    Streams without a planned number of records are ignored.
    """
    need = sum(
        (stream.planned - stream.records) * (stream.record_bytes + 8 * len(COORDINATES))
        for stream in streams
        if stream.planned is not None and stream.planned > stream.records
    )
    state = os.statvfs(path)
    free = state.f_bavail * state.f_frsize
    if need <= free:
        return None
    return (
        f"{path} will write {_size(need)}; {_size(free)} are free: record fewer steps, samples or signals, or"
        " take another disk"
    )


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def describe_failure(recording: Recording, failure: BaseException) -> str:
    """Return a message with the cause of a failure, the committed records and the way to continue."""
    path = recording.path
    committed = ", ".join(f"{name}: {n}" for name, n in recording.attributes.committed.items()) or "none"
    if isinstance(failure, MovedError) or (isinstance(failure, FileNotFoundError) and not path.exists()):
        return (
            f"{path} was moved or deleted while it was recorded, and nothing more is written;"
            f" records committed: {committed}; move it back and {RESUME}"
        )
    if isinstance(failure, OSError):
        where = f" ({failure.filename})" if failure.filename else ""
        cause = f"{failure.strerror}{where}"
    else:
        cause = f"{type(failure).__name__}: {failure}"
    return f"{path} cannot be written: {cause}; records committed: {committed}; repair the disk and {RESUME}"
