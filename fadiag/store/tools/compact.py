"""Write a sealed copy of a run, in a few large compressed files with checksums."""

import dataclasses
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import msgspec

from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store.layout import ArrayLayout, fill_value
from fadiag.store.lock import is_locked
from fadiag.store.read.arrays import read_array
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.snapshot import Snapshot, StoredArray
from fadiag.store.tools.verify import verify_run

__all__ = ["compact"]

#: Target size of a shard in bytes before compression. Compaction holds one shard in memory.
_SHARD_TARGET = 64 * 2**20


def compact(path: str | os.PathLike[str], dest: str | os.PathLike[str]) -> None:
    """Write a sealed copy of a run: the same values, compressed (zstd), with checksums (CRC-32C).

    The root document makes the copy a store. It is written last, so an interrupted copy is not a store. If
    compaction fails, the new folder is removed. A sealed store cannot be resumed.

    Parameters
    ----------
    path : path
        A run without an active writer (complete, failed or killed).
    dest : path or URL
        A path that does not exist, or a URL that obstore accepts, such as ``s3://bucket/prefix`` (extra
        ``cloud``). Region, endpoint and keys come from the environment: ``AWS_REGION`` and so on.

    Raises
    ------
    StoreError
        The run is being recorded or is sealed already, or `dest` exists or cannot be written.
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
        _write(target, snapshot)
    except BaseException as error:
        if "://" not in os.fspath(dest):
            shutil.rmtree(absolute_path(dest), ignore_errors=True)
        if isinstance(error, OSError) or type(error).__module__.startswith("obstore"):
            raise StoreError(f"{dest} cannot be written: {_shown(error)}") from error
        raise


def _write(target: Any, snapshot: Snapshot) -> None:
    import zarr

    root = zarr.create_group(target)
    for group, attrs in snapshot.groups.items():
        root.create_group(group, attributes=dict(attrs))
    for array in snapshot.arrays.values():
        _copy(snapshot.path, root, array)
    _seal(target, snapshot)


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


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
        raise StoreError(f"{text} cannot be reached: {_shown(error)}") from error
    if taken:
        raise StoreError(f"{text} holds objects already; compaction writes a new store, take another prefix")
    return ObjectStore(store)


def shards(layout: ArrayLayout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (shard shape, inner chunk shape): one record per inner chunk, about 64 MiB per shard."""
    if not layout.stepped or layout.chunk[1:] != layout.record_shape:
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
    for _, region in dataclasses.replace(layout, chunk=shard).chunks():
        copy[region] = read_array(source, array, region)


def _seal(target: Any, snapshot: Snapshot) -> None:
    import zarr

    # These attributes make the group a store. They come last, so an interrupted copy is not a store.
    with warnings.catch_warnings():
        # zarr warns that consolidated metadata are only a convention; docs/store-format.md mentions it.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(target)
    group = zarr.open_group(target, mode="r+")
    group.update_attributes(msgspec.to_builtins(snapshot.attributes) | {"status": "sealed"})
