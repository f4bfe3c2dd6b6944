"""ProbeRecords writes the readings of probes to the store and adds nulls to the last record."""

from fadiag.capture.checks.loss_scale import LossScaleCheck
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.streams.last_nulls import with_nulls
from fadiag.capture.streams.probe_reader import ProbeReader

__all__ = ["ProbeRecords"]


class ProbeRecords:
    """Reads the due probes and writes their records.

    By default nulls are drawn in the first and the last record of a probe. Only the next step shows that a
    record was not the last one. So a record without nulls waits until then.

    Parameters
    ----------
    reader : ProbeReader
    loss_scale : LossScaleCheck
        Checks each record.
    """

    def __init__(self, reader: ProbeReader, loss_scale: LossScaleCheck) -> None:
        self._reader, self._loss_scale = reader, loss_scale
        self._streams: dict[str, StreamWriter] = {}
        self._waiting: dict[str, tuple[int, float | None, list[LayerSignals]]] = {}

    def write_to(self, stream: StreamWriter) -> None:
        """Write the probe with the stream's name to this stream."""
        self._streams[stream.stream] = stream

    def have(self, step: int) -> bool:
        """Return whether the store has each probe's record of a step or of a later one."""
        return all(stream.has(step) for stream in self._streams.values())

    def read_due(self, step: int, epoch: float | None) -> None:
        """Read the probes that are due at a step."""
        for name in self._reader.due(step):
            if self._streams[name].has(step):
                continue
            first = self._streams[name].last_step is None
            nulls = self._reader.draws_nulls(name, step, first=first)
            read = self._reader.read(name, step, first=first, nulls=nulls)
            self._waiting[name] = step, epoch, read
            self._loss_scale.see_probe(read)
            if not self._reader.lacks_nulls(name, step, first=first):
                self._write(name)

    def read_last(self, step: int, epoch: float | None) -> None:
        """Record every probe with its nulls; add them to the waiting record of this step if there is one."""
        for name, stream in self._streams.items():
            if stream.has(step):
                continue
            read = self._reader.read(name, step, first=stream.last_step is None, nulls=True)
            if name in self._waiting:
                read = with_nulls(self._waiting[name][2], read, name)
            self._waiting[name] = step, epoch, read
            self._write(name)

    def write_waiting(self) -> None:
        """Write the waiting records. Another step follows, so they were not the last."""
        for name in tuple(self._waiting):
            self._write(name)

    def _write(self, name: str) -> None:
        step, epoch, read = self._waiting.pop(name)
        self._streams[name].layers(step, read, epoch=epoch)
