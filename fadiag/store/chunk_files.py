"""Read chunk files that are what the metadata say: plain, of the right length, inside the store."""

import os
import stat
from pathlib import Path

from fadiag.errors import DamagedError
from fadiag.store.snapshot import StoredArray

__all__ = ["check_chunk", "read_chunk"]


def check_chunk(root: Path, array: StoredArray, name: str) -> int | None:
    """Return the length of a chunk file, None where it may be missing and is; else raise `DamagedError`."""
    place = root / array.path / name
    try:
        state = place.lstat()
    except FileNotFoundError:
        record = int(name.split(".")[1]) * array.layout.chunk[0] if array.layout.stepped else 0
        if array.layout.stepped and record + array.layout.chunk[0] <= array.first_record:
            return None
        raise DamagedError(
            f"{root}: chunk {name} of {array.path} is missing; restore it from a copy of the store"
        ) from None
    except OSError as error:
        raise DamagedError(f"{root}: chunk {name} of {array.path}: {error.strerror}") from None
    if not stat.S_ISREG(state.st_mode):
        raise DamagedError(
            f"{root}: chunk {name} of {array.path} is not a regular file; a store holds nothing else"
        )
    expected = array.layout.chunk_bytes
    if array.sealed:
        # Shards are compressed: their length is free, within what noise and the index can take.
        if state.st_size > 2 * expected + 64 * 2**20:
            raise DamagedError(f"{root}: chunk {name} of {array.path} has {state.st_size:,} bytes, too many")
    elif state.st_size != expected:
        raise DamagedError(
            f"{root}: chunk {name} of {array.path} has {state.st_size:,} bytes instead of {expected:,};"
            " restore it from a copy of the store"
        )
    return state.st_size


def read_chunk(root: Path, array: StoredArray, name: str, start: int, stop: int) -> bytes:
    """Read bytes `start` to `stop` of a chunk file that `check_chunk` found right."""
    folder = root / array.path
    if os.path.realpath(folder) != f"{os.path.realpath(root)}/{array.path}":
        raise DamagedError(f"{folder} is reached through a link; a store holds none")
    descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        data = os.pread(descriptor, max(0, stop - start), start)
    finally:
        os.close(descriptor)
    if len(data) != max(0, stop - start):
        raise DamagedError(f"{root}: chunk {name} of {array.path} is shorter than {stop:,} bytes")
    return data
