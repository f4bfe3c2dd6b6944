"""Recording holds a store that is being written: its streams, nodes, files and commits.

One thread at a time uses a `Recording`; `BackgroundRecording` ensures this.
"""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.store.layout import ArrayLayout
from fadiag.store.lock import StoreLock
from fadiag.store.read.snapshot import RootAttributes
from fadiag.store.write.files import replace_file, write_file, write_record, write_records
from fadiag.store.write.record import Record
from fadiag.store.write.small_records import SmallRecords
from fadiag.store.write.stream import StreamState
from fadiag.store.write.tree import StoreNode, Tree

__all__ = ["Recording"]


class Recording:
    """Add nodes to an open store, write records, commit and finish.

    Files are opened by the store's path. If somebody moved the store, the path may lead to another one. So
    the path is checked before each write.
    """

    def __init__(self, path: Path, lock: StoreLock, attributes: RootAttributes) -> None:
        self.path = path
        self.attributes = attributes
        self.tree = Tree()
        self.streams: dict[str, StreamState] = {}
        #: Paths in a resumed store that have not been declared again yet.
        self.inherited: set[str] = set()
        self._lock = lock
        self._created: dict[str, int] = {}  # the last opened chunk of each array
        self._small = SmallRecords(partial(self._write_to, write_records))

    def stream(self, name: str) -> StreamState:
        """Return a declared stream, or raise `InputError`."""
        if name not in self.streams:
            raise InputError(f"stream {name!r} is not declared; the streams are {sorted(self.streams)}")
        return self.streams[name]

    def add(self, node: StoreNode, static: NDArray[Any] | None = None) -> StoreNode:
        """Create a node's folder and metadata, and write its values if it has no steps."""
        self._lock.check_place(self.path)
        folder = f"{self.path}/{node.path}"
        with contextlib.suppress(FileExistsError):  # a killed writer left it uncommitted
            os.mkdir(folder)  # noqa: PTH102 - often called, and a Path is slow
        write_file(f"{folder}/zarr.json", node.document(0))
        if static is not None and node.layout is not None:
            write_record(folder, node.layout, 0, _bytes_of(static), create=True)
        return self.tree.add(node)

    def backfill(self, node: StoreNode, records: int) -> None:
        """Mark the first records of an array as missing, and fill the start of its open chunk.

        Earlier chunks are not written; readers return the fill value for them.
        """
        assert node.layout is not None
        node.merge_attrs({"declared_at": records})
        for record in range(records - records % node.layout.chunk[0], records):
            self._write_array(node.path, node.layout, record, None)

    def write(self, record: Record) -> None:
        """Append a record to its stream; readers see it after the next commit."""
        stream = self.streams[record.stream]
        for node in stream.arrays:
            assert node.layout is not None
            values = record.arrays.get(node.path)
            data = None if values is None else _bytes_of(values)
            self._write_array(node.path, node.layout, stream.records, data)
        stream.records += 1

    def count_skipped(self, record: Record) -> None:
        """Count a skipped record.

        A commit may run on the other thread, and skipping must not wait for it. So the table is replaced in
        one assignment.
        """
        skipped = self.attributes.skipped
        so_far = skipped.get(record.stream, {"count": 0, "first": record.step})
        now = {**so_far, "count": so_far["count"] + 1, "last": record.step}
        self.attributes.skipped = {**skipped, record.stream: now}

    def commit(self) -> None:
        """Make every written record part of the store, by one rename."""
        self._lock.check_place(self.path)
        self._small.write()
        self.attributes.updated = time.time()
        self.attributes.committed = {name: stream.records for name, stream in self.streams.items()}
        attributes = msgspec.to_builtins(self.attributes)
        document = self.tree.root_document(attributes, self.attributes.committed)
        replace_file(str(self.path), "zarr.json", document)

    def finish(self, status: str) -> None:
        """Commit the final status and update the zarr.json of every node."""
        self.attributes.status = status
        self.commit()
        self.write_documents(final=True)

    def write_documents(self, *, final: bool) -> None:
        """Write the zarr.json of every node, with the committed length if `final` and length 0 if not."""
        for node in self.tree.nodes.values():
            records = self.attributes.committed.get(node.stream, 0) if final else 0
            replace_file(f"{self.path}/{node.path}", "zarr.json", node.document(records))

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def _write_array(self, path: str, layout: ArrayLayout, record: int, data: memoryview | None) -> None:
        if self._small.takes(layout):
            self._small.add(path, layout, record, data)
        else:
            self._write_to(write_record, path, layout, record, data or memoryview(b""))

    def _write_to(
        self, write: Callable[..., None], path: str, layout: ArrayLayout, record: int, data: memoryview
    ) -> None:
        """Write into a chunk file from `record` on; the first record of a chunk creates the file."""
        chunk, within = divmod(record, layout.chunk[0])
        create = within == 0 and self._created.get(path) != chunk
        self._lock.check_place(self.path)
        write(f"{self.path}/{path}", layout, record, data, create=create)
        self._created[path] = chunk


def _bytes_of(array: NDArray[Any]) -> memoryview:
    dtype = array.dtype.newbyteorder("<")
    plain = np.ascontiguousarray(array, dtype)
    return plain.reshape(-1).view(np.uint8).data
