"""Records of small arrays, which wait for the commit: a file is opened once a commit, not once a record."""

from collections.abc import Callable
from dataclasses import dataclass

from fadiag.store.layout import ArrayLayout
from fadiag.store.write.files import fill_bytes

__all__ = ["SmallRecords"]

#: Bytes of a record up to which opening its file costs more than writing it.
_SMALL = 4096
#: Bytes that may wait in all.
_LIMIT = 2**22


@dataclass
class _Run:
    """Records that follow one another in one chunk."""

    layout: ArrayLayout
    first: int
    data: bytearray


class SmallRecords:
    """Collect records and hand each array's on in one piece: ``write(path, layout, first record, bytes)``.

    What waits was not committed, so that a kill loses no more than it would have.
    """

    def __init__(self, write: Callable[[str, ArrayLayout, int, memoryview], None]) -> None:
        self._write = write
        self._runs: dict[str, _Run] = {}
        self._bytes = 0

    @staticmethod
    def takes(layout: ArrayLayout) -> bool:
        """Tell whether the records of an array are small."""
        return layout.record_bytes <= _SMALL

    def add(self, path: str, layout: ArrayLayout, record: int, data: memoryview | None) -> None:
        """Take one record, behind the last of its array; None stands for the fill value."""
        run = self._runs.get(path)
        if run is not None and record % layout.chunk[0] == 0:
            self._hand_on(path)
            run = None
        if run is None:
            run = self._runs[path] = _Run(layout, record, bytearray())
        given = b"" if data is None else data
        assert len(given) <= layout.record_bytes  # more would move every record behind it
        run.data += given
        if len(given) < layout.record_bytes:
            run.data += fill_bytes(layout.dtype, layout.record_bytes - len(given))
        self._bytes += layout.record_bytes
        if self._bytes > _LIMIT:
            self.write()

    def write(self) -> None:
        """Hand on all that waits."""
        for path in list(self._runs):
            self._hand_on(path)

    def _hand_on(self, path: str) -> None:
        run = self._runs[path]
        self._write(path, run.layout, run.first, memoryview(run.data))
        del self._runs[path]  # only now: what could not be written still waits
        self._bytes -= len(run.data)
