"""The committed state of a store at one moment."""

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

#: A number of records, or of bytes along an axis, that a store can have.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class RootAttributes(msgspec.Struct, forbid_unknown_fields=True):
    """The attributes of the root group; docs/store-format.md says what each is."""

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
    """One array: its path, layout and attributes; ``inner`` is the chunk inside a sealed store's shards."""

    path: str
    layout: ArrayLayout
    attrs: Mapping[str, JSON]
    inner: tuple[int, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether the chunk files are compressed shards and not raw bytes."""
        return bool(self.inner)

    @property
    def inner_bytes(self) -> int:
        """Bytes of one inner chunk, not compressed."""
        return math.prod(self.inner) * np.dtype(self.layout.dtype).itemsize

    @property
    def first_record(self) -> int:
        """The first record with values: chunks wholly before it may be missing."""
        return int(self.attrs.get("declared_at", 0))


@dataclass(frozen=True)
class Snapshot:
    """What a store held when it was read."""

    path: Path
    attributes: RootAttributes
    groups: Mapping[str, Mapping[str, JSON]]
    arrays: Mapping[str, StoredArray]

    @property
    def sealed(self) -> bool:
        """Whether the store was compacted and takes no more records."""
        return self.attributes.status == "sealed"
