"""Write records into chunk files, and replace metadata files in one step."""

import os

import numpy as np

from fadiag.store.layout import ArrayLayout, fill_value

__all__ = ["fill_bytes", "replace_file", "write_file", "write_record", "write_records"]

_PIECE = 2**20


def write_file(path: str, data: bytes) -> None:
    """Write a whole file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    try:
        _write_all(descriptor, memoryview(data), 0)
    finally:
        os.close(descriptor)


def replace_file(folder: str, name: str, data: bytes) -> None:
    """Replace a file in one step, so a reader sees either the old file or the new one."""
    temporary = f"{folder}/.{name}.part"
    write_file(temporary, data)
    os.replace(temporary, f"{folder}/{name}")  # noqa: PTH105 - often called, and a Path is slow


def write_record(folder: str, layout: ArrayLayout, record: int, data: memoryview, *, create: bool) -> None:
    """Write one record, and fill the rest of it if `data` is shorter.

    With `create`, missing chunk files are created at their full length; without it they must exist.
    """
    for name, offset, start, stop in layout.blocks(record):
        descriptor = _open(f"{folder}/{name}", layout.chunk_bytes, create=create)
        try:
            given = min(stop, len(data))
            if start < given:
                _write_all(descriptor, data[start:given], offset)
            if given < stop:
                first = max(start, given)
                _fill(descriptor, layout, offset + first - start, stop - first)
        finally:
            os.close(descriptor)


def write_records(folder: str, layout: ArrayLayout, first: int, data: memoryview, *, create: bool) -> None:
    """Write consecutive complete records into one chunk file, starting at record `first`."""
    name, offset, _, _ = next(layout.blocks(first))
    descriptor = _open(f"{folder}/{name}", layout.chunk_bytes, create=create)
    try:
        _write_all(descriptor, data, offset)
    finally:
        os.close(descriptor)


def fill_bytes(dtype: str, length: int) -> bytes:
    """Return `length` bytes of repeated fill values."""
    value, plain = fill_value(dtype), np.dtype(dtype)
    one = np.array(np.nan if value == "NaN" else value, plain.newbyteorder("<")).tobytes()
    return one * (length // plain.itemsize)


def _open(path: str, length: int, *, create: bool) -> int:
    if not create:
        # Without O_CREAT a deleted chunk raises an error and does not become a new file of zeros.
        return os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    os.ftruncate(descriptor, length)
    return descriptor


def _fill(descriptor: int, layout: ArrayLayout, offset: int, length: int) -> None:
    piece = fill_bytes(layout.dtype, min(length, _PIECE))
    for start in range(0, length, _PIECE):
        _write_all(descriptor, memoryview(piece)[: min(_PIECE, length - start)], offset + start)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data = data[written:]
        offset += written
