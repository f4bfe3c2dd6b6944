"""Read a part of a stored array from its chunks."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import DamagedError
from fadiag.store.layout import array_document, fill_value, sealed_codecs
from fadiag.store.read.chunks import check_chunk, check_folder, check_frames, damaged, read_chunk
from fadiag.store.read.snapshot import Snapshot, StoredArray

__all__ = ["Key", "read_array", "read_steps"]

#: An index along one axis.
Key: TypeAlias = int | slice | NDArray[np.integer[Any]]
#: Positions along one axis. Evenly spaced positions are a slice, which numpy reads without a copy.
Where: TypeAlias = slice | NDArray[np.intp]


def read_array(root: Path, array: StoredArray, key: Sequence[Key] = ()) -> NDArray[Any]:
    """Return a part of an array, using memory for the result and one chunk.

    Parameters
    ----------
    root : path
        The store.
    array : StoredArray
        From `read_snapshot`.
    key : sequence of int, slice or array of int
        One index per axis, applied independently; remaining axes are returned whole.

    Raises
    ------
    DamagedError
        A chunk is missing or too short, or (in a sealed store) does not match its checksum.
    """
    check_folder(root, array)
    layout = array.layout
    whole = (*key, *(slice(None),) * (len(layout.shape) - len(key)))
    wanted = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(layout.shape, whole, strict=True)]
    out = np.empty([len(positions) for positions in wanted], np.dtype(layout.dtype).newbyteorder("<"))
    sealed = _zarr_array(root, array) if array.sealed else None
    axes = [_by_chunk(positions, size) for positions, size in zip(wanted, layout.chunk, strict=True)]
    for parts in itertools.product(*axes):
        chunks, at, inside = zip(*parts, strict=True)
        name = layout.key(*chunks)
        if sealed is None:
            _read_raw(root, array, name, inside, out=out, at=at)
            continue
        check_frames(root, array, name, *_bounds(inside[0]))
        places = zip(inside, chunks, layout.chunk, strict=True)
        try:
            part = sealed.oindex[tuple(_shifted(where, i * size) for where, i, size in places)]
        except Exception as error:  # zarr's codecs raise exceptions of any type
            raise damaged(root, array, name, f"is damaged ({error})") from error
        if part.shape == out.shape:  # one shard holds the whole result
            out = part
        else:
            out[_grid(at)] = part
    # Drop each axis whose key is a single position.
    return out[tuple(0 if isinstance(k, (int, np.integer)) else slice(None) for k in whole)]


def read_steps(snapshot: Snapshot, stream: str) -> NDArray[np.int64]:
    """Return the steps of a stream.

    Raises
    ------
    DamagedError
        The steps do not increase, so records cannot be identified by their step.
    """
    array = snapshot.arrays[f"{stream}/step"]
    for index in range(array.layout.grid[0]):  # before memory is allocated for that many steps
        check_chunk(snapshot.path, array, array.layout.key(index))
    steps = read_array(snapshot.path, array).astype(np.int64)
    if np.any(np.diff(steps) <= 0):
        raise DamagedError(
            f"{snapshot.path}: the steps of stream {stream!r} do not grow; the store is damaged"
        )
    return steps


def _zarr_array(root: Path, array: StoredArray) -> Any:
    """Return a sealed array as zarr's array, made from the checked metadata and not from the array's file."""
    import zarr
    from zarr.storage import LocalStore, StorePath

    document = array_document(array.layout, {}, sealed_codecs(array.inner))
    return zarr.Array.from_dict(StorePath(LocalStore(root, read_only=True), array.path), document)


def _read_raw(
    root: Path,
    array: StoredArray,
    name: str,
    inside: tuple[Where, ...],
    *,
    out: NDArray[Any],
    at: tuple[Where, ...],
) -> None:
    """Copy the requested part of a raw chunk to its place in the result."""
    layout = array.layout
    if check_chunk(root, array, name) is None:
        out[_grid(at)] = float(fill_value(layout.dtype))
        return
    start, stop = _bounds(inside[0])
    row = layout.chunk_bytes // layout.chunk[0]
    shape = (stop - start, *layout.chunk[1:])
    # Read directly into the result if it has the same bytes in the same order.
    if all(isinstance(where, slice) for where in (*at, *inside)):
        place = out[at]
        if place.shape == shape and place.flags.c_contiguous:
            read_chunk(root, array, name, start * row, place)
            return
    values = np.empty(shape, out.dtype)
    read_chunk(root, array, name, start * row, values)
    out[_grid(at)] = values[_grid((_shifted(inside[0], -start), *inside[1:]))]


def _by_chunk(positions: NDArray[np.intp], size: int) -> Iterator[tuple[int, Where, Where]]:
    """Yield (chunk, positions in the result, positions in the chunk) along one axis."""
    chunks = positions // size
    for chunk in np.unique(chunks).tolist():
        at = np.flatnonzero(chunks == chunk)
        yield chunk, _as_slice(at), _as_slice(positions[at] - chunk * size)


def _as_slice(positions: NDArray[np.intp]) -> Where:
    first, last = int(positions[0]), int(positions[-1])
    step = int(positions[1]) - first if len(positions) > 1 else 1
    if step > 0 and np.array_equal(positions, np.arange(first, last + 1, step)):
        return slice(first, last + 1, step)
    return positions


def _bounds(where: Where) -> tuple[int, int]:
    if isinstance(where, slice):
        return where.start, where.stop
    return int(where.min()), int(where.max()) + 1


def _shifted(where: Where, by: int) -> Where:
    return slice(where.start + by, where.stop + by, where.step) if isinstance(where, slice) else where + by


def _grid(where: tuple[Where, ...]) -> Any:
    """Return an index that applies to each axis independently; numpy would pair several arrays."""
    if sum(not isinstance(one, slice) for one in where) < 2:
        return where
    return np.ix_(
        *(np.arange(one.start, one.stop, one.step) if isinstance(one, slice) else one for one in where)
    )
