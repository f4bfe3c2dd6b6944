"""Measure the cost of a recording without writing a store."""

import time
from collections.abc import Callable
from functools import partial

from fadiag.capture.session.cost import Cost, StreamCost, Watch, buffer_for, bytes_of, records_planned
from fadiag.capture.session.readers import Readers
from fadiag.capture.session.storage import Storage
from fadiag.capture.streams.schedule import Schedule
from fadiag.capture.streams.state_reader import StateReader

__all__ = ["estimate"]


def estimate(readers: Readers, watch: Watch, storage: Storage, steps: int | None, *, shown: bool) -> Cost:
    """Read each probe and the state once, and return the cost of a record.

    Live signals are missing, because they need a training batch.

    Raises
    ------
    InputError
        A record is larger than the buffer.
    """
    found: dict[str, StreamCost] = {}
    before = watch.peak_bytes()

    def add(name: str, schedule: Schedule, read: Callable[[], int]) -> None:
        begun = time.perf_counter()
        size = read()
        found[name] = StreamCost(size, time.perf_counter() - begun, records_planned(schedule, steps))

    for name in readers.probes.by_name:
        add(name, readers.probes.schedule_of(name), partial(_probe_bytes, readers, name))
    if readers.state is not None:
        add("state", readers.schedule, partial(_state_bytes, readers.state))
    buffer_for({name: cost.nbytes for name, cost in found.items()}, storage.buffer_bytes)
    cost = Cost(found, watch.peak_bytes() - before)
    if shown:
        print(cost)
    return cost


def _probe_bytes(readers: Readers, name: str) -> int:
    return bytes_of(readers.probes.read(name, 0, first=True, nulls=True))


def _state_bytes(state: StateReader) -> int:
    state.begin(0)
    state.end(0, updated=False)
    return state.record_bytes()
