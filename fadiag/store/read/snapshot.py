"""What a store says of itself at one moment: its root document, read once and checked to the last name.

Nothing downstream trusts a metadata file: paths, lengths, types and codecs have been checked here, by msgspec
and arithmetic. Files are opened without following links.
"""

import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from fadiag.errors import DamagedError, InputError, NotAStoreError, SchemaError
from fadiag.paths import absolute_path
from fadiag.store.layout import DTYPES, MAX_CHUNK, RAW_CODECS, SCHEMA, ArrayLayout, array_document, fill_value
from fadiag.store.names import COORDINATES, JSON, MAX_KEY

__all__ = ["RootAttributes", "Snapshot", "StoredArray", "read_regular", "read_snapshot"]

_MAX_DOCUMENT = 256 * 2**20
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class RootAttributes(msgspec.Struct, forbid_unknown_fields=True):
    """The attributes of the root group."""

    fadiag_schema: int
    run_id: str
    generation: _Count
    status: str
    created: float
    updated: float
    committed: dict[str, _Count]
    skipped: dict[str, dict[str, _Count]]
    resumes: list[dict[str, Any]]
    manifest: dict[str, Any]


class _Node(msgspec.Struct):
    node_type: Literal["group", "array"]
    zarr_format: Literal[3]
    attributes: dict[str, Any] = {}
    shape: list[_Count] = []
    data_type: str = ""
    chunk_grid: dict[str, Any] = {}
    codecs: list[Any] = []
    dimension_names: list[str] = []


class _Consolidated(msgspec.Struct):
    kind: Literal["inline"]
    metadata: dict[str, msgspec.Raw]


class _Root(msgspec.Struct):
    node_type: Literal["group"]
    zarr_format: Literal[3]
    attributes: msgspec.Raw
    consolidated_metadata: _Consolidated | None = None


class _Schema(msgspec.Struct):
    fadiag_schema: int | None = None


@dataclass(frozen=True)
class StoredArray:
    """One array: where it lies and its attributes; ``inner`` is the chunk inside a sealed store's shards."""

    path: str
    layout: ArrayLayout
    attrs: Mapping[str, JSON]
    inner: tuple[int, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether the chunk files are sealed shards, not raw bytes."""
        return bool(self.inner)

    @property
    def inner_bytes(self) -> int:
        """Bytes of one decoded inner chunk."""
        return math.prod(self.inner) * np.dtype(self.layout.dtype).itemsize

    @property
    def first_record(self) -> int:
        """Records before this one were taken before the array was declared; their chunks may be missing."""
        return int(self.attrs.get("declared_at", 0))


@dataclass(frozen=True)
class Snapshot:
    """The committed state of a store when it was read."""

    path: Path
    attributes: RootAttributes
    groups: Mapping[str, Mapping[str, JSON]]
    arrays: Mapping[str, StoredArray]

    @property
    def sealed(self) -> bool:
        """Whether the store was compacted: complete, checksummed, closed to writers."""
        return self.attributes.status == "sealed"


def read_regular(path: Path, limit: int) -> bytes:
    """Read a plain file (never a link, a device or a pipe) of at most `limit` bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise DamagedError(f"{path} is not a regular file; a store holds nothing else")
        if state.st_size > limit:
            raise DamagedError(f"{path} has {state.st_size:,} bytes, at most {limit:,} are expected")
        return file.read(state.st_size)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read and check the root document of a store.

    Raises
    ------
    NotAStoreError
        There is no such path, or it holds no fadiag store.
    SchemaError
        The store was written by a newer or an older fadiag.
    DamagedError
        The document says something that no writer writes.
    """
    place = absolute_path(path)
    document = _root_bytes(place)
    try:
        root = msgspec.json.decode(document, type=_Root)
        schema = msgspec.json.decode(root.attributes, type=_Schema).fadiag_schema
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        raise DamagedError(f"{place}/zarr.json is damaged: {error}") from None
    return Snapshot(place, attributes, groups, arrays)


def _root_bytes(place: Path) -> bytes:
    if not place.exists():
        raise NotAStoreError(f"{place}: no such file or directory")
    if not place.is_dir():
        raise NotAStoreError(f"{place} is a file, not a fadiag store (a directory with a zarr.json)")
    try:
        return read_regular(place / "zarr.json", _MAX_DOCUMENT)
    except FileNotFoundError:
        raise NotAStoreError(f"{place} is not a fadiag store: it holds no zarr.json") from None
    except OSError as error:
        raise NotAStoreError(f"{place}/zarr.json cannot be read: {error.strerror}") from None


def _nodes(
    raw: Mapping[str, msgspec.Raw], attributes: RootAttributes
) -> tuple[dict[str, dict[str, JSON]], dict[str, StoredArray]]:
    groups: dict[str, dict[str, JSON]] = {}
    arrays: dict[str, StoredArray] = {}
    for path, text in raw.items():
        try:
            node = msgspec.json.decode(text, type=_Node)
            _check_path(path)
            if node.node_type == "group":
                groups[path] = node.attributes
            else:
                sealed = attributes.status == "sealed"
                arrays[path] = _array(
                    path, node, msgspec.json.decode(text), attributes.committed, sealed=sealed
                )
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{path!r}: {error}") from None
    _check_tree(groups, arrays, attributes)
    return groups, arrays


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not 1 <= len(parts) <= 3:
        raise ValueError("a node lies at stream, stream/layer or stream/layer/signal")
    for part in parts:
        if not part or part[0] in "._" or len(part) > MAX_KEY or not part.isascii() or not part.isprintable():
            raise ValueError(f"name {part!r} is none that a writer gives")
        if part in {"zarr.json", "c"} or "\\" in part:
            raise ValueError(f"name {part!r} is reserved")


def _array(
    path: str, node: _Node, document: JSON, committed: Mapping[str, int], *, sealed: bool
) -> StoredArray:
    stream = path.partition("/")[0]
    grid = node.chunk_grid["configuration"]["chunk_shape"]
    if node.data_type not in DTYPES:
        raise ValueError(f"data type {node.data_type!r} is not supported")
    if not (len(grid) == len(node.shape) == len(node.dimension_names)) or len(grid) > 16:
        raise ValueError("shape, chunk shape and dimension names differ in length")
    if any(type(n) is not int or not 1 <= n <= MAX_CHUNK for n in grid):
        raise ValueError(f"chunk shape {grid}")
    if math.prod(node.shape[1:]) > 2**48 or len(set(node.dimension_names)) != len(grid):
        raise ValueError(f"shape {node.shape} with dimensions {node.dimension_names}")
    stepped = "step" in node.dimension_names
    layout = ArrayLayout(
        tuple(node.dimension_names), tuple(node.shape), tuple(grid), node.data_type, stepped=stepped
    )
    if stepped and (
        layout.dims[0] != "step" or stream not in committed or layout.shape[0] != committed[stream]
    ):
        raise ValueError(f"has {node.shape[:1]} records, {committed.get(stream)} are committed to {stream!r}")
    if any(n < 1 for n in layout.record_shape):
        raise ValueError(f"shape {node.shape} has an empty axis")
    # Beyond step, chunks cover whole axes but for the first of a record that was split.
    free = 2 if stepped else 1
    if any(c != n for c, n in zip(grid[free:], node.shape[free:], strict=True)):
        raise ValueError(f"chunk shape {grid} does not cover the trailing axes of {node.shape}")
    if layout.chunk_bytes > (MAX_CHUNK * 2 if sealed else MAX_CHUNK):
        raise ValueError(f"chunks of {layout.chunk_bytes:,} bytes are beyond the limit of {MAX_CHUNK:,}")
    if not sealed and document != array_document(layout, node.attributes, RAW_CODECS):
        raise ValueError("codecs, fill value or another field is none that a writer gives")
    inner = _inner(node.codecs, layout) if sealed else ()
    if sealed and document.get("fill_value") != fill_value(layout.dtype):
        raise ValueError("the fill value is none that compaction gives")
    first = node.attributes.get("declared_at", 0)
    if type(first) is not int or first < 0:
        raise ValueError(f"declared_at {first!r} is no record number")
    return StoredArray(path, layout, node.attributes, inner)


def _inner(codecs: list[Any], layout: ArrayLayout) -> tuple[int, ...]:
    """Return the chunk shape inside the shards of a sealed array."""
    names = [codec["name"] for codec in codecs]
    told = codecs[0]["configuration"] if names == ["sharding_indexed"] else {}
    if (
        [codec["name"] for codec in told.get("codecs", ())] != ["bytes", "zstd", "crc32c"]
        or [codec["name"] for codec in told.get("index_codecs", ())] != ["bytes", "crc32c"]
        or told.get("index_location", "end") != "end"
    ):
        raise ValueError("codecs are none that compaction gives")
    inner = tuple(told["chunk_shape"])
    if inner not in {layout.chunk, (1, *layout.chunk[1:])} or any(type(n) is not int for n in inner):
        raise ValueError(f"inner chunk shape {inner} does not fit the shard {layout.chunk}")
    return inner


def _check_tree(
    groups: Mapping[str, Any], arrays: Mapping[str, StoredArray], attributes: RootAttributes
) -> None:
    for path in (*groups, *arrays):
        parent = path.rpartition("/")[0]
        if parent and parent not in groups:
            raise ValueError(f"{path!r} lies below {parent!r}, which is no group")
    for stream in attributes.committed:
        for name, dtype in COORDINATES.items():
            array = arrays.get(f"{stream}/{name}")
            if array is None or array.layout.dtype != dtype or array.layout.dims != ("step",):
                raise ValueError(f"stream {stream!r} has no coordinate {name!r} of type {dtype}")


def refuse_links(path: Path) -> None:
    """Raise where a store that shall be written to holds a link: a write could leave the store."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink():
                raise InputError(f"{entry} is a symbolic link; a store that is resumed must hold none")
