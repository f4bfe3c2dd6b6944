"""Records of small arrays wait for the commit, so a file is opened once a commit and not once a record."""

from collections.abc import Callable
from dataclasses import dataclass

from fadiag.store.layout import ArrayLayout
from fadiag.store.write.files import fill_bytes

__all__ = ["SmallRecords"]

#: Up to so many bytes of a record, opening its file costs more than writing it.
_SMALL = 4096
#: Bytes that may wait in all.
_LIMIT = 2**22


@dataclass
class _Waiting:
    """Consecutive records of one chunk."""

    layout: ArrayLayout
    first: int
    data: bytearray


class SmallRecords:
    """Collect records, then write those of an array at once: ``write(path, layout, first record, bytes)``.

    The records that wait are not committed, so a kill loses no more than without them.
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
        """Take the next record of an array; None is the fill value."""
        waiting = self._waiting.get(path)
        if waiting is not None and record % layout.chunk[0] == 0:
            self._write_array(path)
            waiting = None
        if waiting is None:
            waiting = self._waiting[path] = _Waiting(layout, record, bytearray())
        given = b"" if data is None else data
        assert len(given) <= layout.record_bytes  # more would move every record behind it
        waiting.data += given
        if len(given) < layout.record_bytes:
            waiting.data += fill_bytes(layout.dtype, layout.record_bytes - len(given))
        self._bytes += layout.record_bytes
        if self._bytes > _LIMIT:
            self.write()

    def write(self) -> None:
        """Write all that waits."""
        for path in list(self._waiting):
            self._write_array(path)

    def _write_array(self, path: str) -> None:
        waiting = self._waiting[path]
        self._write(path, waiting.layout, waiting.first, memoryview(waiting.data))
        del self._waiting[path]  # only now: a write that failed can be tried again
        self._bytes -= len(waiting.data)
