"""Check that a store has every committed chunk, complete and (in a sealed store) unchanged."""

import os
from dataclasses import dataclass
from pathlib import Path

from fadiag.errors import DamagedError
from fadiag.store.read.arrays import read_array, read_steps
from fadiag.store.read.chunks import check_chunk
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.snapshot import Snapshot, StoredArray

__all__ = ["Verification", "verify_run"]


@dataclass(frozen=True)
class Verification:
    """Hold the numbers of checked arrays and chunks, and the problems found, one line each.

    Examples
    --------
    >>> Verification(Path("run.zarr"), 2, 5, ("probe/fc1/error: chunk 3 is missing",)).raise_problems()
    Traceback (most recent call last):
        ...
    fadiag.errors.DamagedError: probe/fc1/error: chunk 3 is missing
    """

    path: Path
    arrays: int
    chunks: int
    problems: tuple[str, ...]

    def raise_problems(self) -> None:
        """Raise `DamagedError` with the first problem and the number of further problems."""
        if self.problems:
            more = len(self.problems) - 1
            raise DamagedError(f"{self.problems[0]}{f' (and {more} more problems)' if more else ''}")


def verify_run(path: str | os.PathLike[str]) -> Verification:
    """Check that every committed chunk exists with the right length, and that the steps increase.

    In a sealed store every chunk is also read, and its checksum reveals a flipped bit.

    Parameters
    ----------
    path : path
        A store.

    Returns
    -------
    Verification
        Its ``problems`` are empty if the store is undamaged.

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `open_run`: if the metadata are damaged, nothing else can be checked.

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
    chunks = 0
    for array in snapshot.arrays.values():
        found = 0
        for name, region in array.layout.chunks():
            chunks += 1
            try:
                _check(snapshot, array, name, region)
            except DamagedError as error:
                problems.append(str(error))
                found += 1
            if found == 100:
                problems.append(f"{snapshot.path}: {array.path} has more; the rest of it was left out")
                break
    if not problems:
        for stream in snapshot.attributes.committed:
            try:
                read_steps(snapshot, stream)
            except DamagedError as error:
                problems.append(str(error))
    return Verification(snapshot.path, len(snapshot.arrays), chunks, tuple(problems))


def _check(snapshot: Snapshot, array: StoredArray, name: str, region: tuple[slice, ...]) -> None:
    check_chunk(snapshot.path, array, name)
    if snapshot.sealed:
        read_array(snapshot.path, array, region)
