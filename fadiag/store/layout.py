"""Compute the chunk layout and the zarr metadata of an array, as plain numbers and JSON.

Writers and readers both find a record in its file by this module. docs/store-format.md describes the same
layout in words.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fadiag.errors import InputError
from fadiag.store.names import check_name
from fadiag.store.values import JSON

__all__ = [
    "CHUNK_TARGET",
    "DTYPES",
    "MAX_CHUNK",
    "SCHEMA",
    "ArrayLayout",
    "ArraySpec",
    "array_document",
    "fill_value",
    "group_document",
    "plan_array",
    "sealed_codecs",
]

#: Version of the layout. Stores of other versions are refused.
#: Version 3 added the gate null and the spectra of a null's draws.
SCHEMA = 3
#: Target size of a chunk in bytes.
CHUNK_TARGET = 4 * 2**20
#: Largest size of a chunk in bytes. A metadata file that claims more is refused.
MAX_CHUNK = 2**30
DTYPES = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()  # noqa: SIM905
)
RAW_CODECS: list[JSON] = [{"name": "bytes", "configuration": {"endian": "little"}}]


def sealed_codecs(inner: Sequence[int]) -> list[JSON]:
    """Return the codecs of a sealed array, whose shards hold compressed inner chunks with checksums."""
    compressed = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
    shards = {
        "chunk_shape": list(inner),
        "codecs": [*RAW_CODECS, compressed, {"name": "crc32c"}],
        "index_codecs": [*RAW_CODECS, {"name": "crc32c"}],
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": shards}]


@dataclass(frozen=True)
class ArraySpec:
    """Describe one record of a signal: dimensions and shape without ``step``, dtype and attributes.

    Examples
    --------
    >>> ArraySpec(("sample", "out"), (512, 10), "float32").nbytes
    20480
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.dims) != len(self.shape):
            raise InputError(f"dims {self.dims} and shape {self.shape} differ in length; name each axis once")
        for dim in self.dims:
            check_name("dimension", dim)
        if len({"step", *self.dims}) != len(self.dims) + 1:
            raise InputError(
                f"dims {self.dims}: give each a separate name, and leave out 'step', which the store adds"
            )
        if any(n < 1 for n in self.shape):
            raise InputError(f"shape {self.shape}: every length must be at least 1")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype {self.dtype!r} cannot be stored; use one of {', '.join(sorted(DTYPES))}")

    @property
    def nbytes(self) -> int:
        """Size of one record in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def fill_value(dtype: str) -> JSON:
    """Return the value that fills unrecorded places: NaN for floats, 0 for integers, False for bool."""
    if dtype == "bool":
        return False
    return "NaN" if dtype.startswith("float") else 0


@dataclass(frozen=True)
class ArrayLayout:
    """Map each part of an array to the bytes of a chunk file.

    A file of an array with steps holds ``chunk[0]`` records. A record larger than the chunk target is split
    along its first axis into separate files.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    stepped: bool

    @cached_property
    def record_shape(self) -> tuple[int, ...]:
        """Shape of one record, or of the whole array if it has no steps."""
        return self.shape[1:] if self.stepped else self.shape

    @cached_property
    def record_bytes(self) -> int:
        """Size of one record in bytes."""
        return math.prod(self.record_shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def chunk_bytes(self) -> int:
        """Size of every chunk file in bytes."""
        return math.prod(self.chunk) * np.dtype(self.dtype).itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))

    def key(self, *index: int) -> str:
        """Return the file name of a chunk from its first indices; missing indices are 0."""
        full = (*index, *(0,) * (len(self.shape) - len(index)))
        return ".".join(("c", *map(str, full)))

    def chunks(self) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """Yield the file name and the part of the array of every chunk."""
        for index in np.ndindex(*self.grid):
            places = zip(index, self.chunk, self.shape, strict=True)
            yield self.key(*index), tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in places)

    def blocks(self, record: int) -> Iterator[tuple[str, int, int, int]]:
        """Yield where a record lies: (file name, offset in the file, first byte, last byte + 1)."""
        lead: tuple[int, ...] = ()
        offset = 0
        if self.stepped:
            lead, offset = (record // self.chunk[0],), (record % self.chunk[0]) * self.record_bytes
        if not self.record_shape:
            yield self.key(*lead), offset, 0, self.record_bytes
            return
        block = self.chunk[len(lead)] * (self.record_bytes // self.record_shape[0])
        for part, start in enumerate(range(0, self.record_bytes, block)):
            yield self.key(*lead, part), offset, start, min(start + block, self.record_bytes)


def plan_array(spec: ArraySpec, *, stepped: bool, planned: int | None = None) -> ArrayLayout:
    """Choose the chunks of an array.

    A file holds K = clamp(4 MiB / record, 1, 1024) records, but no more than the planned number.

    Raises
    ------
    InputError
        One row along the first axis is larger than 1 GiB.

    Examples
    --------
    >>> plan_array(ArraySpec(("sample", "out"), (512, 1024), "float32"), stepped=True).chunk
    (2, 512, 1024)
    >>> plan_array(ArraySpec(("out", "in"), (4096, 1024), "float32"), stepped=True).chunk
    (1, 1024, 1024)
    """
    own = list(spec.shape)
    if own and spec.nbytes > CHUNK_TARGET:
        row = spec.nbytes // own[0]
        if row > MAX_CHUNK:
            raise InputError(
                f"a row of {row:,} bytes is beyond the limit of {MAX_CHUNK:,}; reshape the signal"
            )
        own[0] = max(1, CHUNK_TARGET // row)
    if not stepped:
        return ArrayLayout(spec.dims, spec.shape, tuple(own), spec.dtype, stepped=False)
    records = min(max(CHUNK_TARGET // spec.nbytes, 1), 1024, max(planned or 1024, 1))
    return ArrayLayout(("step", *spec.dims), (0, *spec.shape), (records, *own), spec.dtype, stepped=True)


def array_document(
    layout: ArrayLayout, attrs: Mapping[str, JSON], codecs: Sequence[JSON] = RAW_CODECS
) -> JSON:
    """Return the zarr v3 metadata of an array."""
    return {
        "shape": list(layout.shape),
        "data_type": layout.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill_value(layout.dtype),
        "codecs": list(codecs),
        "attributes": dict(attrs),
        "dimension_names": list(layout.dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def group_document(attrs: Mapping[str, JSON]) -> JSON:
    """Return the zarr v3 metadata of a group."""
    return {"attributes": dict(attrs), "zarr_format": 3, "node_type": "group"}
