"""What a run is going to write, held against what the disk has left."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fadiag.store.names import COORDINATES
from fadiag.store.write.recording import WrittenStream

__all__ = ["shortage"]


def shortage(path: Path, streams: Iterable[WrittenStream], record_bytes: Mapping[str, int]) -> str | None:
    """Return what to say where the planned records do not fit the disk, None where they do.

    Parameters
    ----------
    streams : iterable of WrittenStream
        Those whose number of records is not planned count for nothing.
    record_bytes : mapping of stream to int
        Bytes of one record.
    """
    need = sum(
        (stream.planned - stream.rows) * (record_bytes.get(stream.name, 0) + 8 * len(COORDINATES))
        for stream in streams
        if stream.planned is not None and stream.planned > stream.rows
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
