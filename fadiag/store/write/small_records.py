"""Collect records of small arrays until the commit, so that each file is opened once per commit."""

from collections.abc import Callable
from dataclasses import dataclass

from fadiag.store.layout import ArrayLayout
from fadiag.store.write.files import fill_bytes

__all__ = ["SmallRecords"]

#: Up to this record size in bytes, opening the file costs more than writing the record.
_SMALL = 4096
#: Largest number of waiting bytes.
_LIMIT = 2**22


@dataclass
class _Waiting:
    """Hold consecutive records of one chunk."""

    layout: ArrayLayout
    first: int
    data: bytearray


class SmallRecords:
    """Collect records and write those of an array at once: ``write(path, layout, first record, bytes)``.

    Waiting records are not committed yet, so waiting loses no extra records if the process is killed.
    """

    def __init__(self, write: Callable[[str, ArrayLayout, int, memoryview], None]) -> None:
        self._write = write
        self._waiting: dict[str, _Waiting] = {}
        self._bytes = 0

    @staticmethod
    def takes(layout: ArrayLayout) -> bool:
        """Return whether the records of an array are small."""
        return layout.record_bytes <= _SMALL

    def add(self, path: str, layout: ArrayLayout, record: int, data: memoryview | None) -> None:
        """Add the next record of an array; None means the fill value."""
        waiting = self._waiting.get(path)
        if waiting is not None and record % layout.chunk[0] == 0:
            self._write_array(path)
            waiting = None
        if waiting is None:
            waiting = self._waiting[path] = _Waiting(layout, record, bytearray())
        given = b"" if data is None else data
        assert len(given) <= layout.record_bytes  # a longer one would shift every later record
        waiting.data += given
        if len(given) < layout.record_bytes:
            waiting.data += fill_bytes(layout.dtype, layout.record_bytes - len(given))
        self._bytes += layout.record_bytes
        if self._bytes > _LIMIT:
            self.write()

    def write(self) -> None:
        """Write all waiting records."""
        for path in list(self._waiting):
            self._write_array(path)

    def _write_array(self, path: str) -> None:
        waiting = self._waiting[path]
        self._write(path, waiting.layout, waiting.first, memoryview(waiting.data))
        del self._waiting[path]  # after the write, so a failed write can be repeated
        self._bytes -= len(waiting.data)
