"""Read chunk files that are what the metadata say: plain, of the right length, inside the store."""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import DamagedError
from fadiag.store.read.snapshot import StoredArray

__all__ = ["check_chunk", "damaged", "read_chunk", "read_chunk_into", "refuse_linked_folder"]


def damaged(root: Path, array: StoredArray, name: str, why: object) -> DamagedError:
    """Return the error that names a chunk and what is wrong with it."""
    return DamagedError(f"{root}: chunk {name} of {array.path} {why}; restore it from a copy of the store")


def check_chunk(root: Path, array: StoredArray, name: str) -> int | None:
    """Return the length of a chunk file, None where it may be missing and is; else raise `DamagedError`."""
    try:
        state = os.lstat(f"{root}/{array.path}/{name}")
    except FileNotFoundError:
        record = int(name.split(".")[1]) * array.layout.chunk[0] if array.layout.stepped else 0
        late = array.layout.stepped and not array.sealed
        if late and record + array.layout.chunk[0] <= array.first_record:
            return None
        raise damaged(root, array, name, "is missing") from None
    except OSError as error:
        raise damaged(root, array, name, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(state.st_mode):
        raise DamagedError(
            f"{root}: chunk {name} of {array.path} is not a regular file; a store holds nothing else"
        )
    expected = array.layout.chunk_bytes
    if array.sealed:
        # Shards are compressed: their length is free, within what noise and the index can take.
        if state.st_size > 2 * expected + 64 * 2**20:
            raise damaged(root, array, name, f"has {state.st_size:,} bytes, too many")
    elif state.st_size != expected:
        raise damaged(root, array, name, f"has {state.st_size:,} bytes instead of {expected:,}")
    return state.st_size


def refuse_linked_folder(root: Path, array: StoredArray) -> None:
    """Raise `DamagedError` where the way from the store to an array's folder goes over a link."""
    folder = f"{root}"
    for part in array.path.split("/"):
        folder = f"{folder}/{part}"
        try:
            linked = stat.S_ISLNK(os.lstat(folder).st_mode)
        except OSError as error:
            raise DamagedError(f"{folder} cannot be read: {error.strerror}; was the store moved?") from None
        if linked:
            raise DamagedError(f"{root}/{array.path} is reached through a link; a store holds none")


def read_chunk_into(root: Path, array: StoredArray, name: str, start: int, destination: NDArray[Any]) -> None:
    """Fill a contiguous array with the bytes from `start` on of a chunk that `check_chunk` found right."""
    view = destination.reshape(-1).view(np.uint8).data
    try:
        descriptor = os.open(f"{root}/{array.path}/{name}", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise damaged(root, array, name, f"cannot be read ({error.strerror})") from None
    try:
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], start + done)
            if count == 0:
                raise damaged(root, array, name, f"is shorter than {start + len(view):,} bytes")
            done += count
    finally:
        os.close(descriptor)


def read_chunk(root: Path, array: StoredArray, name: str, start: int, stop: int) -> bytes:
    """Read bytes `start` to `stop` of a chunk file that `check_chunk` found right."""
    data = np.empty(stop - start, np.uint8)
    read_chunk_into(root, array, name, start, data)
    return data.tobytes()
