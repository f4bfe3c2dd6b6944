"""Read a part of a stored array, straight from its chunk files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import DamagedError
from fadiag.store.layout import fill_value
from fadiag.store.read.chunk_files import check_chunk, read_chunk_into, refuse_linked_folder
from fadiag.store.read.sealed_chunks import read_shard
from fadiag.store.read.snapshot import Snapshot, StoredArray

__all__ = ["Key", "positions_of", "read_array", "read_steps", "without_integer_axes"]

#: What to take along one axis.
Key: TypeAlias = int | slice | NDArray[np.integer[Any]]


def read_array(root: Path, array: StoredArray, key: Sequence[Key] = ()) -> NDArray[Any]:
    """Return a part of an array; memory beyond the result is one chunk.

    Parameters
    ----------
    root : path
        The store.
    array : StoredArray
        From `read_snapshot`.
    key : sequence of int, slice or array of int
        One an axis, each axis by itself; axes beyond it are taken whole.

    Raises
    ------
    DamagedError
        A chunk that is missing, short, or (sealed) does not hold its checksum.
    """
    refuse_linked_folder(root, array)
    layout = array.layout
    whole = (*key, *(slice(None),) * (len(layout.shape) - len(key)))
    wanted = positions_of(whole, layout.shape)
    out = np.empty([len(positions) for positions in wanted], np.dtype(layout.dtype).newbyteorder("<"))
    for first, at_first, in_first in _by_chunk(wanted[0], layout.chunk[0]):
        if len(wanted) == 1:
            _read_part(root, array, layout.key(first), out, at=(at_first,), inside=(in_first,))
            continue
        # Axes beyond the second are never cut.
        for second, at_second, in_second in _by_chunk(wanted[1], layout.chunk[1]):
            inside = (in_first, in_second, *(_slice(positions) for positions in wanted[2:]))
            name = layout.key(first, second)
            _read_part(root, array, name, out, at=(at_first, at_second), inside=inside)
    return without_integer_axes(out, whole)


def read_steps(snapshot: Snapshot, stream: str) -> NDArray[np.int64]:
    """Read the step coordinate of a stream, which must grow."""
    array = snapshot.arrays[f"{stream}/step"]
    for index in range(array.layout.grid[0]):  # before memory is asked for so many
        check_chunk(snapshot.path, array, array.layout.key(index))
    steps = read_array(snapshot.path, array).astype(np.int64)
    if np.any(np.diff(steps) <= 0):
        raise DamagedError(
            f"{snapshot.path}: the steps of stream {stream!r} do not grow; the store is damaged"
        )
    return steps


def positions_of(key: Sequence[Key], shape: Sequence[int]) -> list[NDArray[np.intp]]:
    """Return the positions that a key takes along each axis."""
    return [np.atleast_1d(np.arange(n)[k]) for n, k in zip(shape, key, strict=True)]


def without_integer_axes(values: NDArray[Any], key: Sequence[Key]) -> NDArray[Any]:
    """Take away the axes, of length 1, along which the key is one place and not a part."""
    return values[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in key)]


def _by_chunk(positions: NDArray[np.intp], size: int) -> Iterator[tuple[int, Any, Any]]:
    """Yield (chunk, where in the result, where in the chunk) along one axis."""
    chunks = positions // size
    for chunk in np.unique(chunks):
        at = np.flatnonzero(chunks == chunk)
        yield int(chunk), _slice(at), _slice(positions[at] - chunk * size)


def _slice(positions: NDArray[np.intp]) -> Any:
    """Return the positions as a slice where they are neighbors, which numpy takes without a copy."""
    if len(positions) and np.array_equal(positions, np.arange(positions[0], positions[0] + len(positions))):
        return slice(int(positions[0]), int(positions[0]) + len(positions))
    return positions


def _bounds(inside: Any) -> tuple[int, int]:
    if isinstance(inside, slice):
        return inside.start, inside.stop
    return int(inside.min()), int(inside.max()) + 1


def _read_part(
    root: Path,
    array: StoredArray,
    name: str,
    out: NDArray[Any],
    *,
    at: tuple[Any, ...],
    inside: tuple[Any, ...],
) -> None:
    """Copy what is wanted of one chunk to its place in the result."""
    layout = array.layout
    start, stop = _bounds(inside[0])
    if array.sealed:
        values = read_shard(root, array, name, start, stop)
    elif check_chunk(root, array, name) is None:
        out[_grid(at)] = float(fill_value(layout.dtype))
        return
    else:
        row = layout.chunk_bytes // layout.chunk[0]
        shape = (stop - start, *layout.chunk[1:])
        # Straight into the result where the file has the same bytes in the same order.
        if all(isinstance(where, slice) for where in (*at, *inside)):
            place = out[at]
            if place.shape == shape and place.flags.c_contiguous:
                read_chunk_into(root, array, name, start * row, place)
                return
        values = np.empty(shape, out.dtype)
        read_chunk_into(root, array, name, start * row, values)
    rows = slice(None) if isinstance(inside[0], slice) else inside[0] - start
    part = values[rows]
    for axis, where in enumerate(inside[1:], 1):
        part = part[(slice(None),) * axis + (where,)]
    out[_grid(at)] = part


def _grid(at: tuple[Any, ...]) -> Any:
    return at if sum(not isinstance(where, slice) for where in at) < 2 else np.ix_(*map(_positions, at))


def _positions(where: Any) -> Any:
    return np.arange(where.start, where.stop) if isinstance(where, slice) else where
