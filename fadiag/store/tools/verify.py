"""Hold a store against its own metadata: every committed chunk there, whole, and (sealed) unchanged."""

import os
from dataclasses import dataclass
from pathlib import Path

from fadiag.errors import DamagedError
from fadiag.store.read.chunk_files import check_chunk
from fadiag.store.read.chunks import read_steps
from fadiag.store.read.sealed_chunks import read_shard
from fadiag.store.read.snapshot import Snapshot, StoredArray, read_snapshot

__all__ = ["Verification", "verify_run"]


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what was found wrong (one line each; none: the store is whole)."""

    path: Path
    arrays: int
    chunks: int
    stored_bytes: int
    problems: tuple[str, ...]

    def raise_problems(self) -> None:
        """Raise `DamagedError` with the first problem and the number of the others."""
        if self.problems:
            more = len(self.problems) - 1
            raise DamagedError(f"{self.problems[0]}{f' (and {more} more problems)' if more else ''}")


def verify_run(path: str | os.PathLike[str]) -> Verification:
    """Check that every committed chunk is present and of the right length, and that steps grow.

    In a sealed store every chunk is read too, so that a flipped bit shows by its checksum.

    Parameters
    ----------
    path : path
        A store.

    Returns
    -------
    Verification
        Its ``problems`` are empty where the store is whole.

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `open_run`: a store whose metadata cannot be trusted is not looked into any further.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     writer.append("log", 0, {}, extra={"loss": 1.0})
    >>> verify_run(path).problems
    ()
    """
    snapshot = read_snapshot(path)
    problems: list[str] = []
    chunks = stored = 0
    for array in snapshot.arrays.values():
        missing = 0
        for name in array.layout.keys():  # noqa: SIM118 - file names, not a mapping's keys
            chunks += 1
            try:
                stored += check_chunk(snapshot.path, array, name) or 0
            except DamagedError as error:
                problems.append(str(error))
                missing += 1
                if missing == 100:
                    problems.append(f"{snapshot.path}: {array.path} has more; the rest of it was left out")
                    break
        if snapshot.sealed and not missing:
            problems.extend(_flipped(snapshot, array))
    if not problems:
        for stream in snapshot.attributes.committed:
            try:
                read_steps(snapshot, stream)
            except DamagedError as error:
                problems.append(str(error))
    return Verification(snapshot.path, len(snapshot.arrays), chunks, stored, tuple(problems))


def _flipped(snapshot: Snapshot, array: StoredArray) -> list[str]:
    layout = array.layout
    found = []
    for name in layout.keys():  # noqa: SIM118
        rows = layout.shape[0] - int(name.split(".")[1]) * layout.chunk[0]
        try:
            read_shard(snapshot.path, array, name, 0, min(rows, layout.chunk[0]))
        except DamagedError as error:
            found.append(str(error))
    return found
