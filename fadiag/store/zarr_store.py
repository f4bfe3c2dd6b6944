"""A zarr store over a `Snapshot`: metadata from memory, chunks from files that are what they must be.

A chunk that was committed and is missing, a file of a wrong length, a link or a device is an error that names
the array and the chunk, never a silent fill value and never more bytes than the metadata allow.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from fadiag.errors import StoreError
from fadiag.store.chunk_files import check_chunk, read_chunk
from fadiag.store.snapshot import Snapshot, StoredArray

__all__ = ["SnapshotStore"]

_CHUNK = re.compile(r"c(\.\d{1,15})+")


class SnapshotStore(Store):  # type: ignore[misc, unused-ignore]
    """Read-only zarr store that shows exactly what a snapshot committed."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    supports_partial_writes = False

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(read_only=True)
        self._snapshot = snapshot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SnapshotStore) and other._snapshot is self._snapshot

    def __hash__(self) -> int:
        return id(self._snapshot)

    def __repr__(self) -> str:
        return f"SnapshotStore({str(self._snapshot.path)!r})"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a metadata document, or (a range of) a chunk."""
        document = self._document(key)
        if document is not None:
            return prototype.buffer.from_bytes(document)
        array, name = self._chunk(key)
        if array is None:
            return None
        size = check_chunk(self._snapshot.path, array, name)
        if size is None:
            return None
        start, stop = _range(byte_range, size)
        data = await asyncio.to_thread(read_chunk, self._snapshot.path, array, name, start, stop)
        return prototype.buffer.from_bytes(data)

    def _document(self, key: str) -> bytes | None:
        if key == "zarr.json":
            return self._snapshot.document
        return (
            self._snapshot.nodes.get(key.removesuffix("/zarr.json")) if key.endswith("/zarr.json") else None
        )

    def _chunk(self, key: str) -> tuple[StoredArray | None, str]:
        path, _, name = key.rpartition("/")
        return (self._snapshot.arrays.get(path) if _CHUNK.fullmatch(name) else None), name

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether a key is there."""
        array, name = self._chunk(key)
        if self._document(key) is not None or array is None:
            return self._document(key) is not None
        return (self._snapshot.path / array.path / name).is_file()

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: recorded runs are read only."""
        raise StoreError(f"{self._snapshot.path} is opened to be read; {key} is not written")

    async def delete(self, key: str) -> None:
        """Refuse: recorded runs are read only."""
        raise StoreError(f"{self._snapshot.path} is opened to be read; {key} is not deleted")

    async def list(self) -> AsyncIterator[str]:
        """Yield the keys of all metadata documents."""
        yield "zarr.json"
        for path in self._snapshot.nodes:
            yield f"{path}/zarr.json"

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys of metadata documents under a prefix."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names right under a prefix."""
        start = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        names = {key.removeprefix(start).partition("/")[0] async for key in self.list_prefix(start)}
        for name in sorted(names):
            yield name


def _range(wanted: ByteRequest | None, size: int) -> tuple[int, int]:
    if isinstance(wanted, RangeByteRequest):
        return wanted.start, min(wanted.end, size)
    if isinstance(wanted, OffsetByteRequest):
        return wanted.offset, size
    if isinstance(wanted, SuffixByteRequest):
        return max(0, size - wanted.suffix), size
    return 0, size
