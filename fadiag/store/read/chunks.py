"""Check the chunk files of a stored array against the metadata, and read them.

A chunk must be a regular file of the right length inside the store; otherwise reading it raises
`DamagedError`. No link is followed. A shard of a sealed store may have any length, but each frame in it must
claim the size of a record.
"""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import DamagedError
from fadiag.store.read.snapshot import StoredArray

__all__ = ["check_chunk", "check_folder", "check_frames", "damaged", "read_chunk"]

_INDEX_ENTRY = 16  # the offset and the length of a frame, 8 bytes each
_CHECKSUM = 4
_FRAME_HEAD = 18  # the longest header of a zstd frame


def damaged(root: Path, array: StoredArray, name: str, why: object) -> DamagedError:
    """Return the error that names a chunk and describes its damage."""
    return DamagedError(f"{root}: chunk {name} of {array.path} {why}; restore it from a copy of the store")


def check_folder(root: Path, array: StoredArray) -> None:
    """Raise `DamagedError` if the path from the store to an array's folder contains a link."""
    folder = f"{root}"
    for part in array.path.split("/"):
        folder = f"{folder}/{part}"
        try:
            linked = stat.S_ISLNK(os.lstat(folder).st_mode)
        except OSError as error:
            raise DamagedError(f"{folder} cannot be read: {error.strerror}; was the store moved?") from None
        if linked:
            raise DamagedError(
                f"{root}/{array.path} is reached through a link; a store holds none, so put the folder there"
            )


def check_chunk(root: Path, array: StoredArray, name: str) -> int | None:
    """Return the length of a chunk file, or None if it is missing and only holds fill values.

    Raises
    ------
    DamagedError
        The file is missing, is not a regular file, or its length differs from the metadata.
    """
    layout = array.layout
    try:
        state = os.lstat(f"{root}/{array.path}/{name}")
    except FileNotFoundError:
        if layout.stepped and not array.sealed:
            end = (int(name.split(".")[1]) + 1) * layout.chunk[0]
            if end <= array.first_record:
                return None
        raise damaged(root, array, name, "is missing") from None
    except OSError as error:
        raise damaged(root, array, name, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(state.st_mode):
        raise damaged(root, array, name, "is not a regular file, and a store holds nothing else")
    if array.sealed:
        # A shard is compressed. Even incompressible values and the index need no more than this.
        if state.st_size > 2 * layout.chunk_bytes + 64 * 2**20:
            raise damaged(root, array, name, f"has {state.st_size:,} bytes, too many")
    elif state.st_size != layout.chunk_bytes:
        raise damaged(root, array, name, f"has {state.st_size:,} bytes instead of {layout.chunk_bytes:,}")
    return state.st_size


def read_chunk(root: Path, array: StoredArray, name: str, start: int, destination: NDArray[Any]) -> None:
    """Fill a contiguous array from a chunk that `check_chunk` accepted, starting at byte `start`."""
    try:
        descriptor = os.open(f"{root}/{array.path}/{name}", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise damaged(root, array, name, f"cannot be read ({error.strerror})") from None
    try:
        view = destination.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], start + done)
            if count == 0:
                raise damaged(root, array, name, f"is shorter than {start + len(view):,} bytes")
            done += count
    finally:
        os.close(descriptor)


def check_frames(root: Path, array: StoredArray, name: str, start: int, stop: int) -> None:
    """Check the frames of a shard's rows `start` to `stop`; zstd allocates the size that a frame claims.

    Raises
    ------
    DamagedError
        The shard is shorter than its index says, or the claimed size of a frame is not that of a record.
    """
    rows = array.inner[0]
    frames = array.layout.chunk[0] // rows
    size = check_chunk(root, array, name) or 0
    place_of_index = size - frames * _INDEX_ENTRY - _CHECKSUM
    if place_of_index < 0:
        raise damaged(root, array, name, "is shorter than its index")
    index = np.empty((frames, 2), "<u8")
    read_chunk(root, array, name, place_of_index, index)
    for place, length in index[start // rows : -(-stop // rows)].tolist():
        if place + length > size:
            raise damaged(root, array, name, "is damaged (its index points beyond its end)")
        head = np.empty(min(length, _FRAME_HEAD), np.uint8)
        read_chunk(root, array, name, place, head)
        claimed = _claimed_bytes(head.tobytes())
        if claimed != array.inner_bytes:
            shown = "an unknown number of" if claimed is None else f"{claimed:,}"
            why = f"is damaged (a record claims to have {shown} bytes instead of {array.inner_bytes:,})"
            raise damaged(root, array, name, why)


def _claimed_bytes(head: bytes) -> int | None:
    """Return the size that the header of a zstd frame (RFC 8878) claims, or None if it claims no size."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
        return None
    single, flag = head[4] >> 5 & 1, head[4] >> 6
    start = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    length = (single, 2, 4, 8)[flag]
    if not length:
        return None
    return int.from_bytes(head[start : start + length], "little") + (256 if flag == 1 else 0)
