"""Write a finished run anew: few large files, compressed, with checksums, closed to writers."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store.layout import ArrayLayout, fill_value
from fadiag.store.lock import is_locked
from fadiag.store.read.chunks import read_array
from fadiag.store.read.snapshot import Snapshot, StoredArray, read_snapshot
from fadiag.store.tools.verify import verify_run

__all__ = ["compact"]

#: Bytes of uncompressed data that a shard aims at, which is also what compaction holds in memory.
_SHARD_TARGET = 64 * 2**20


def compact(
    path: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write a sealed copy of a run: shards of many records, one record an inner chunk, zstd, CRC-32C.

    The root's document, which makes the copy a store, is written last: a copy that was cut off is none, and a
    folder that could not be filled is removed. The values of both are equal bit for bit. A sealed store
    refuses to be resumed.

    Parameters
    ----------
    path : path
        A run that nobody writes to (complete, failed or killed).
    dest : path or URL
        A path that does not exist, or ``s3://bucket/prefix`` and what else obstore takes (extra ``cloud``;
        region, endpoint and keys come from the environment, ``AWS_REGION`` and so on).
    progress : callable, optional
        Called with the path of each array before it is copied.

    Raises
    ------
    StoreError
        The run is being recorded or is sealed already, `dest` is taken or cannot be written.
    DamagedError
        The run is damaged; nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter, run_info
    >>> folder = tempfile.mkdtemp()
    >>> with RunWriter(f"{folder}/run.zarr", manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     writer.append("log", 0, {}, extra={"loss": 1.0})
    >>> compact(f"{folder}/run.zarr", f"{folder}/sealed.zarr")
    >>> run_info(f"{folder}/sealed.zarr").status
    'sealed'
    """
    snapshot = read_snapshot(path)
    if snapshot.sealed:
        raise StoreError(f"{path} is sealed already; copy it as it is")
    if is_locked(snapshot.path):
        raise StoreError(f"{path} is being recorded; close it before you compact it")
    verify_run(path).raise_problems()
    target = _target(dest)
    try:
        _write(target, snapshot, progress)
    except BaseException as error:
        if "://" not in os.fspath(dest):
            shutil.rmtree(dest, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(f"{dest} cannot be written: {error}") from error
        if type(error).__module__.startswith("obstore"):
            raise StoreError(
                f"{dest} cannot be written: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        raise


def _write(target: Any, snapshot: Snapshot, progress: Callable[[str], None] | None) -> None:
    import zarr

    root = zarr.create_group(target)
    for group in sorted(snapshot.groups, key=lambda name: name.count("/")):
        root.create_group(group, attributes=dict(snapshot.groups[group]))
    for array in snapshot.arrays.values():
        if progress is not None:
            progress(array.path)
        _copy(snapshot.path, root, array)
    _seal(target, snapshot)


def _target(dest: str | os.PathLike[str]) -> Any:
    from zarr.storage import LocalStore, ObjectStore

    text = os.fspath(dest)
    if "://" not in text:
        target = absolute_path(text)
        try:
            target.mkdir(parents=True)
        except FileExistsError:
            raise StoreError(f"{target} exists; compaction writes a new store, take another path") from None
        except OSError as error:
            raise StoreError(f"{target} cannot be written: {error}") from None
        return LocalStore(target)
    try:
        from obstore.store import from_url
    except ImportError:
        raise InputError(f"{text} needs obstore: pip install 'fadiag[cloud]'") from None
    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    if endpoint and endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    store = from_url(text, **options)
    try:
        taken = any(store.list(chunk_size=1))
    except Exception as error:
        raise StoreError(f"{text} cannot be reached: {type(error).__name__}: {str(error)[:300]}") from error
    if taken:
        raise StoreError(f"{text} holds objects already; compaction writes a new store, take another prefix")
    return ObjectStore(store)


def shards(layout: ArrayLayout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (shard shape, inner chunk shape): a record an inner chunk, some 64 MiB a shard."""
    if not layout.stepped:
        return layout.chunk, layout.chunk
    if layout.chunk[1:] != layout.record_shape:
        return layout.chunk, layout.chunk
    records = min(max(_SHARD_TARGET // layout.record_bytes, 1), 1024, max(layout.shape[0], 1))
    return (records, *layout.record_shape), (1, *layout.record_shape)


def _copy(source: Path, root: Any, array: StoredArray) -> None:
    from zarr.codecs import Crc32cCodec, ZstdCodec

    layout = array.layout
    shard, inner = shards(layout)
    fill = fill_value(layout.dtype)
    copy = root.create_array(
        array.path,
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=inner,
        shards=shard,
        compressors=(ZstdCodec(level=3), Crc32cCodec()),
        fill_value=float("nan") if fill == "NaN" else fill,
        dimension_names=layout.dims,
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes=dict(array.attrs),
        config={"write_empty_chunks": True},
    )
    # One block along the first two axes at a time is one shard: memory stays at one shard.
    size = shard[0]
    for start in range(0, layout.shape[0], size):
        rows = slice(start, min(start + size, layout.shape[0]))
        if layout.stepped and len(shard) > 1:
            for first in range(0, layout.shape[1], shard[1]):
                part = slice(first, min(first + shard[1], layout.shape[1]))
                copy[rows, part] = read_array(source, array, (rows, part))
        else:
            copy[rows] = read_array(source, array, (rows,))


def _seal(target: Any, snapshot: Snapshot) -> None:
    import zarr

    # The attributes that make the group a store come last: a copy that was cut off is not taken for one.
    with warnings.catch_warnings():
        # zarr warns that consolidated metadata are a convention; docs/store-format.md says so.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(target)
    group = zarr.open_group(target, mode="r+")
    group.update_attributes(msgspec.to_builtins(snapshot.attributes) | {"status": "sealed"})
