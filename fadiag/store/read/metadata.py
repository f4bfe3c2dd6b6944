"""Read the root document of a store and check every name, length, type and codec in it.

Other code trusts only the `Snapshot` made here, never a metadata file. Files are opened without following
links.
"""

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from fadiag.errors import DamagedError, NotAStoreError, SchemaError
from fadiag.paths import absolute_path
from fadiag.store.layout import DTYPES, MAX_CHUNK, SCHEMA, ArrayLayout, array_document, fill_value
from fadiag.store.names import COORDINATES, MAX_KEY
from fadiag.store.read.snapshot import Count, RootAttributes, Snapshot, StoredArray
from fadiag.store.values import JSON

__all__ = ["read_snapshot"]

_MAX_DOCUMENT = 256 * 2**20
_INVALID = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError, LookupError)


class _NodeDocument(msgspec.Struct):
    node_type: Literal["group", "array"]
    zarr_format: Literal[3]
    attributes: dict[str, Any] = {}
    shape: list[Count] = []
    data_type: str = ""
    chunk_grid: dict[str, Any] = {}
    codecs: list[Any] = []
    dimension_names: list[str] = []


class _Consolidated(msgspec.Struct):
    kind: Literal["inline"]
    metadata: dict[str, msgspec.Raw]


class _RootDocument(msgspec.Struct):
    node_type: Literal["group"]
    zarr_format: Literal[3]
    attributes: msgspec.Raw
    consolidated_metadata: _Consolidated | None = None


class _SchemaOnly(msgspec.Struct):
    fadiag_schema: int | None = None


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read and check the root document of a store.

    Raises
    ------
    NotAStoreError
        The path does not exist, or is not a fadiag store.
    SchemaError
        A newer or an older version of fadiag wrote the store.
    DamagedError
        The document holds something that fadiag never writes.
    """
    place = absolute_path(path)
    document = _root_bytes(place)
    try:
        root = msgspec.json.decode(document, type=_RootDocument)
        schema = msgspec.json.decode(root.attributes, type=_SchemaOnly).fadiag_schema
    except _INVALID as error:
        raise NotAStoreError(
            f"{place} is not a fadiag store: its zarr.json is not one of ours ({error})"
        ) from None
    if schema is None:
        raise NotAStoreError(
            f"{place} is a zarr group but no fadiag store: the attribute fadiag_schema is missing"
        )
    if schema != SCHEMA:
        way_out = "upgrade fadiag to read it" if schema > SCHEMA else "record the run again"
        raise SchemaError(f"{place} has schema {schema}, this fadiag reads schema {SCHEMA}; {way_out}")
    if root.consolidated_metadata is None:
        raise DamagedError(f"{place}/zarr.json holds no committed tree; the store is damaged")
    try:
        attributes = msgspec.json.decode(root.attributes, type=RootAttributes)
        groups, arrays = _nodes(root.consolidated_metadata.metadata, attributes)
    except _INVALID as error:
        raise DamagedError(f"{place}/zarr.json is damaged: {error}") from None
    return Snapshot(place, attributes, groups, arrays)


def _root_bytes(place: Path) -> bytes:
    if not place.exists():
        raise NotAStoreError(f"{place}: no such file or directory")
    if not place.is_dir():
        raise NotAStoreError(f"{place} is a file, not a fadiag store (a directory with a zarr.json)")
    try:
        return _read_regular(place / "zarr.json")
    except FileNotFoundError:
        raise NotAStoreError(f"{place} is not a fadiag store: it holds no zarr.json") from None
    except OSError as error:
        raise NotAStoreError(f"{place}/zarr.json cannot be read: {error.strerror}") from None


def _read_regular(path: Path) -> bytes:
    """Read a regular file; refuse links, devices and pipes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise DamagedError(f"{path} is not a regular file; a store holds nothing else")
        if state.st_size > _MAX_DOCUMENT:
            raise DamagedError(f"{path} has {state.st_size:,} bytes, at most {_MAX_DOCUMENT:,} are expected")
        return file.read(state.st_size)


def _nodes(
    raw: Mapping[str, msgspec.Raw], attributes: RootAttributes
) -> tuple[dict[str, dict[str, JSON]], dict[str, StoredArray]]:
    groups: dict[str, dict[str, JSON]] = {}
    arrays: dict[str, StoredArray] = {}
    for path, text in raw.items():
        try:
            node = msgspec.json.decode(text, type=_NodeDocument)
            _check_path(path)
            if node.node_type == "group":
                groups[path] = node.attributes
            else:
                arrays[path] = _array(path, node, msgspec.json.decode(text), attributes)
        except _INVALID as error:
            raise ValueError(f"{path!r}: {error}") from None
    _check_tree(groups, arrays, attributes)
    return groups, arrays


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not 1 <= len(parts) <= 3:
        raise ValueError("a node must be at stream, stream/layer or stream/layer/signal")
    for part in parts:
        if not part or part[0] in "._" or len(part) > MAX_KEY or not part.isascii() or not part.isprintable():
            raise ValueError(f"fadiag never writes the name {part!r}")
        if part in {"zarr.json", "c"} or "\\" in part:
            raise ValueError(f"name {part!r} is reserved")


def _array(path: str, node: _NodeDocument, document: JSON, attributes: RootAttributes) -> StoredArray:
    layout = _layout(node)
    _check_records(layout, path.partition("/")[0], attributes.committed)
    inner: tuple[int, ...] = ()
    limit = MAX_CHUNK
    if attributes.status == "sealed":
        limit *= 2
        inner = _inner_chunk(node.codecs, layout)
        if document.get("fill_value") != fill_value(layout.dtype):
            raise ValueError("compaction never writes this fill value")
    elif document != array_document(layout, node.attributes):
        raise ValueError("fadiag never writes these codecs, this fill value or these fields")
    if layout.chunk_bytes > limit:
        raise ValueError(f"chunks of {layout.chunk_bytes:,} bytes are beyond the limit of {limit:,}")
    first = node.attributes.get("declared_at", 0)
    if type(first) is not int or first < 0:
        raise ValueError(f"declared_at {first!r} is not a record number")
    return StoredArray(path, layout, node.attributes, inner)


def _layout(node: _NodeDocument) -> ArrayLayout:
    grid = node.chunk_grid["configuration"]["chunk_shape"]
    if node.data_type not in DTYPES:
        raise ValueError(f"data type {node.data_type!r} is not supported")
    if not (len(grid) == len(node.shape) == len(node.dimension_names)) or len(grid) > 16:
        raise ValueError("shape, chunk shape and dimension names differ in length")
    if any(type(n) is not int or not 1 <= n <= MAX_CHUNK for n in grid):
        raise ValueError(f"chunk shape {grid}")
    if math.prod(node.shape[1:]) > 2**48 or len(set(node.dimension_names)) != len(grid):
        raise ValueError(f"shape {node.shape} with dimensions {node.dimension_names}")
    dims, stepped = tuple(node.dimension_names), "step" in node.dimension_names
    layout = ArrayLayout(dims, tuple(node.shape), tuple(grid), node.data_type, stepped=stepped)
    if any(n < 1 for n in layout.record_shape):
        raise ValueError(f"shape {node.shape} has an empty axis")
    # Chunks cover whole axes, except for step and for the first axis of a split record.
    free = 2 if stepped else 1
    if any(c != n for c, n in zip(grid[free:], node.shape[free:], strict=True)):
        raise ValueError(f"chunk shape {grid} does not cover the last axes of {node.shape}")
    return layout


def _check_records(layout: ArrayLayout, stream: str, committed: Mapping[str, int]) -> None:
    if layout.stepped and (layout.dims[0] != "step" or layout.shape[0] != committed.get(stream)):
        raise ValueError(
            f"has {layout.shape[:1]} records, {committed.get(stream)} are committed to {stream!r}"
        )


def _inner_chunk(codecs: list[Any], layout: ArrayLayout) -> tuple[int, ...]:
    """Return the chunk shape inside the shards of a sealed array."""
    names = [codec["name"] for codec in codecs]
    shards = codecs[0]["configuration"] if names == ["sharding_indexed"] else {}
    if (
        [codec["name"] for codec in shards.get("codecs", ())] != ["bytes", "zstd", "crc32c"]
        or [codec["name"] for codec in shards.get("index_codecs", ())] != ["bytes", "crc32c"]
        or shards.get("index_location", "end") != "end"
    ):
        raise ValueError("compaction never writes these codecs")
    inner = tuple(shards["chunk_shape"])
    if inner not in {layout.chunk, (1, *layout.chunk[1:])} or any(type(n) is not int for n in inner):
        raise ValueError(f"inner chunk shape {inner} does not fit the shard {layout.chunk}")
    return inner


def _check_tree(
    groups: Mapping[str, Any], arrays: Mapping[str, StoredArray], attributes: RootAttributes
) -> None:
    for path in (*groups, *arrays):
        parent = path.rpartition("/")[0]
        if parent and parent not in groups:
            raise ValueError(f"{path!r} lies below {parent!r}, which is not a group")
    for stream in attributes.committed:
        for name, dtype in COORDINATES.items():
            array = arrays.get(f"{stream}/{name}")
            if array is None or array.layout.dtype != dtype or array.layout.dims != ("step",):
                raise ValueError(f"stream {stream!r} has no coordinate {name!r} of type {dtype}")
