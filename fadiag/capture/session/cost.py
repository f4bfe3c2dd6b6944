"""Estimate the size, time and memory of each record before a long run starts."""

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.errors import InputError

__all__ = ["Cost", "StreamCost", "Watch", "buffer_for", "bytes_of", "records_planned"]

#: The size of the write buffer for small records, and the largest size without the user's ``buffer_bytes``.
SMALLEST_BUFFER, LARGEST_BUFFER = 128 * 2**20, 2 * 2**30

_WAYS_OUT = {
    "state": "record fewer signals or layers of it (state=['weight'], layers=[...], state=() for none)",
    "probe": "give the Probe reduction='factor', fewer samples (rows=) or fewer signals",
}


@dataclass(frozen=True)
class StreamCost:
    """The cost of one record of a stream; ``records`` is None if the number of steps is unknown."""

    nbytes: int
    seconds: float
    records: int | None


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a recording, by stream; ``print`` shows it as a table.

    Attributes
    ----------
    streams : mapping of str to StreamCost
    peak_bytes : int
        The largest memory that the readings needed in addition to the memory in use before. It is memory of
        the device if the model is on CUDA, and otherwise memory of the process.

    Examples
    --------
    >>> print(Cost({"state": StreamCost(2_000_000, 0.01, 11)}, 3_000_000))
    state: 2.0 MB and 0.010 s a record; 11 records, 22.0 MB and 0.1 s
    memory: 3.0 MB at most while recording
    """

    streams: Mapping[str, StreamCost]
    peak_bytes: int

    def __str__(self) -> str:
        """Return one line for each stream and one for the memory."""
        lines = []
        for name, cost in self.streams.items():
            line = f"{name}: {cost.nbytes / 1e6:.1f} MB and {cost.seconds:.3f} s a record"
            if cost.records is not None:
                size, seconds = cost.records * cost.nbytes / 1e6, cost.records * cost.seconds
                line += f"; {cost.records} records, {size:.1f} MB and {seconds:.1f} s"
            lines.append(line)
        return "\n".join([*lines, f"memory: {self.peak_bytes / 1e6:.1f} MB at most while recording"])


class Watch:
    """Measures the time that a recorder takes in its run, and the memory of its readings."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begun = time.perf_counter()
        self._spent = 0.0
        self._depth = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Count the time inside the context as the recorder's."""
        self._depth += 1
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._spent += time.perf_counter() - begun

    def count_all(self) -> None:
        """Count all time so far as the recorder's."""
        self._spent = time.perf_counter() - self._begun

    @property
    def seconds(self) -> tuple[float, float]:
        """The seconds of the recorder and of the whole run so far."""
        return self._spent, time.perf_counter() - self._begun

    def peak_bytes(self) -> int:
        """Return the peak memory so far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def records_planned(schedule: Callable[[int], bool], steps: int | None) -> int | None:
    """Return the number of records in a run of ``steps`` updates; None if ``steps`` is None."""
    return None if steps is None else sum(map(schedule, range(int(steps)))) + 1  # one after the last update


def bytes_of(read: Sequence[LayerSignals]) -> int:
    """Return the size of a record in the store in bytes, with room for the whole batch."""
    total = 0
    for layer in read:
        for signal in layer.signals.values():
            fill = 1.0
            if signal.dims[:1] == ("sample",) and len(signal.array):
                fill = max(1.0, layer.room / len(signal.array))
            total += int(signal.array.nbytes * fill)
    return total


def buffer_for(sizes: Mapping[str, int], given: int | None) -> int:
    """Return how many bytes may wait for the disk: at least one record of the largest stream.

    Parameters
    ----------
    sizes : mapping of str to int
        The bytes of one record of each stream.
    given : int, optional
        The user's own limit.

    Raises
    ------
    InputError
        A record is larger than the limit.
    """
    limit = LARGEST_BUFFER if given is None else given
    for stream, size in sizes.items():
        if size > limit:
            whose = "the user's buffer_bytes" if given is not None else "what is buffered by default"
            way_out = _WAYS_OUT["state" if stream == "state" else "probe"]
            raise InputError(
                f"a record of {stream!r} has {size:,} bytes, more than the {limit:,} of {whose}; {way_out}, "
                f"or give storage=Storage(buffer_bytes={size}) if there is memory for it"
            )
    return max(SMALLEST_BUFFER, *sizes.values(), 0) if given is None else given
