"""Snapshot holds the committed state of a store at one moment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from fadiag.store.layout import ArrayLayout
from fadiag.store.values import JSON

__all__ = ["Count", "RootAttributes", "Snapshot", "StoredArray"]

#: A valid number of records, or length of an axis.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class RootAttributes(msgspec.Struct, forbid_unknown_fields=True):
    """Hold the attributes of the root group; docs/store-format.md describes each."""

    fadiag_schema: int
    run_id: str
    generation: Count
    status: str
    created: float
    updated: float
    committed: dict[str, Count]
    skipped: dict[str, dict[str, Count]]
    resumes: list[dict[str, Any]]
    manifest: dict[str, Any]


@dataclass(frozen=True)
class StoredArray:
    """Describe one array; ``inner`` is the chunk shape inside a sealed store's shards."""

    path: str
    layout: ArrayLayout
    attrs: Mapping[str, JSON]
    inner: tuple[int, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether the chunk files are compressed shards; otherwise they are raw bytes."""
        return bool(self.inner)

    @property
    def inner_bytes(self) -> int:
        """Size of one inner chunk in bytes, uncompressed."""
        return math.prod(self.inner) * np.dtype(self.layout.dtype).itemsize

    @property
    def first_record(self) -> int:
        """First record with values; chunks that end before it may be missing."""
        return int(self.attrs.get("declared_at", 0))


@dataclass(frozen=True)
class Snapshot:
    """Hold the attributes, groups and arrays of a store at the time it was read."""

    path: Path
    attributes: RootAttributes
    groups: Mapping[str, Mapping[str, JSON]]
    arrays: Mapping[str, StoredArray]

    @property
    def sealed(self) -> bool:
        """Whether the store was compacted and accepts no more records."""
        return self.attributes.status == "sealed"
