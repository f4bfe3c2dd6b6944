"""Decode records of a sealed store's shards.

A shard is the inner chunks (zstd, CRC-32C), then their places and lengths, then the CRC-32C of those. zarr
decodes; what it is given has been held against the metadata first, so that a frame which claims to be larger
than its record is refused before memory is asked for.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import DamagedError
from fadiag.store.layout import INNER_CODECS, ArrayLayout, array_document
from fadiag.store.read.chunk_files import check_chunk, damaged, read_chunk
from fadiag.store.read.snapshot import StoredArray

__all__ = ["read_shard"]

_ENTRY = 16  # a place and a length, 8 bytes each
_CHECKSUM = 4


def read_shard(root: Path, array: StoredArray, name: str, start: int, stop: int) -> NDArray[Any]:
    """Return the rows `start` to `stop` of a shard's first axis: (stop - start, *chunk[1:]).

    Raises
    ------
    DamagedError
        A checksum that does not hold, or a shard that is none; it names the array and the chunk.
    """
    layout, inner = array.layout, array.inner
    parts = layout.chunk[0] // inner[0]
    first, last = start // inner[0], -(-stop // inner[0])
    size = check_chunk(root, array, name)
    if size is None or size < parts * _ENTRY + _CHECKSUM:
        raise damaged(root, array, name, "is shorter than its index")
    index = read_chunk(root, array, name, size - parts * _ENTRY - _CHECKSUM, size)
    try:
        entries = _decode(("bytes", "crc32c"), [index], (parts, 2), "uint64")
        frames = []
        for place, length in entries[first:last].tolist():
            if place + length > size:
                raise ValueError("its index points beyond its end")
            frames.append(read_chunk(root, array, name, place, place + length))
            _check_frame(frames[-1], array.inner_bytes)
        values = _decode(("bytes", "zstd", "crc32c"), frames, inner, layout.dtype)
    except DamagedError:
        raise
    except Exception as error:  # zarr's codecs raise what they like
        raise damaged(root, array, name, f"is damaged ({error})") from error
    return values[start - first * inner[0] : stop - first * inner[0]]


def _check_frame(frame: bytes, expected: int) -> None:
    """Raise ValueError unless a zstd frame (RFC 8878) says that it holds exactly the expected bytes."""
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 6:
        raise ValueError("a record is no zstd frame")
    single, flag = frame[4] >> 5 & 1, frame[4] >> 6
    start = 5 + (not single) + (0, 1, 2, 4)[frame[4] & 3]
    length = (single, 2, 4, 8)[flag]
    told = int.from_bytes(frame[start : start + length], "little") + (256 if flag == 1 else 0)
    if told != expected:
        raise ValueError(f"a record claims to have {told:,} bytes instead of {expected:,}")


def _decode(codecs: tuple[str, ...], pieces: list[bytes], chunk: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Decode pieces as the chunks, in order along the first axis, of an array in memory."""
    import zarr
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    shape = (len(pieces) * chunk[0], *chunk[1:])
    layout = ArrayLayout(tuple(f"d{i}" for i in range(len(shape))), shape, chunk, dtype, stepped=False)
    named = [codec for codec in INNER_CODECS if codec["name"] in codecs]
    document = json.dumps(array_document(layout, {}, named)).encode()
    files: dict[str, Any] = {"zarr.json": Buffer.from_bytes(document)}
    for number, piece in enumerate(pieces):
        files[layout.key(number)] = Buffer.from_bytes(piece)
    return np.asarray(zarr.open_array(MemoryStore(files, read_only=True), mode="r")[...])
