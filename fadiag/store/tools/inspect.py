"""Summarize the contents of a store from its metadata and its file sizes."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fadiag.store.names import COORDINATES
from fadiag.store.read.arrays import read_steps
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.open import RunInfo, info_of
from fadiag.store.read.snapshot import Snapshot, StoredArray
from fadiag.store.tools.layer_table import WIDTH, forward_order, layer_table
from fadiag.store.values import JSON

__all__ = ["LayerSummary", "RunSummary", "SignalSummary", "StreamSummary", "inspect_run"]


@dataclass(frozen=True)
class SignalSummary:
    """Describe one array; ``nan_count`` is its number of non-finite values, or None if not counted.

    Examples
    --------
    >>> SignalSummary("error", ("step", "sample", "out"), (5, 8, 3), "float32", 480, 0, {}).shape
    (5, 8, 3)
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    nan_count: int | None
    attrs: Mapping[str, JSON]


@dataclass(frozen=True)
class LayerSummary:
    """Describe one layer of a stream, under its true module name.

    Examples
    --------
    >>> LayerSummary("fc1", (), {"gate": "relu"}).attrs["gate"]
    'relu'
    """

    name: str
    signals: tuple[SignalSummary, ...]
    attrs: Mapping[str, JSON]


@dataclass(frozen=True)
class StreamSummary:
    """Describe one stream: its steps, gaps and layers.

    A gap ``(a, b)`` is a pair of neighboring steps further apart than the stream's ``every``. Without
    ``every``, the most common distance between steps is used.

    Examples
    --------
    >>> stream = StreamSummary("probe", 3, 0, 30, 10, ((10, 30),), 0, 4096, (), (), {"kind": "probe"})
    >>> stream.records, stream.gaps
    (3, ((10, 30),))
    """

    name: str
    records: int
    first_step: int | None
    last_step: int | None
    every: int | None
    gaps: tuple[tuple[int, int], ...]
    skipped: int
    stored_bytes: int
    layers: tuple[LayerSummary, ...]
    signals: tuple[SignalSummary, ...]
    attrs: Mapping[str, JSON]


@dataclass(frozen=True)
class RunSummary:
    """Describe the contents of a store; ``stored_bytes`` is its size on the disk.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> RunWriter(path, manifest={}).close()
    >>> summary = inspect_run(path)
    >>> summary.info.status, summary.streams
    ('complete', ())
    """

    info: RunInfo
    streams: tuple[StreamSummary, ...]
    stored_bytes: int

    def layer_table(self, width: int = WIDTH) -> str:
        """Return the table of the layers, as a `fadiag.Recorder` shows it; "" if no stream has one.

        `width` is that of the lines below the table, which list signals.
        """
        found = {
            stream.name: [(layer.attrs, [signal.name for signal in layer.signals]) for layer in stream.layers]
            for stream in self.streams
            if stream.layers and stream.name != "static"
        }
        return layer_table(found, width) if found else ""


def inspect_run(path: str | os.PathLike[str]) -> RunSummary:
    """Summarize a run: status, streams, layers, signals, steps, gaps, skipped records, NaN counts, sizes.

    The run may be empty or still being recorded.

    Parameters
    ----------
    path : path
        A store.

    Returns
    -------
    RunSummary

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `open_run`.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     for step in (0, 10, 20, 40, 50):
    ...         writer.append("log", step, {}, extra={"loss": 1.0})
    >>> inspect_run(path).streams[0].gaps
    ((20, 40),)
    """
    snapshot = read_snapshot(path)
    arrays: defaultdict[str, list[StoredArray]] = defaultdict(list)  # by group
    layers: defaultdict[str, list[LayerSummary]] = defaultdict(list)  # by stream
    stored: Counter[str] = Counter()  # bytes by stream
    for place, array in snapshot.arrays.items():
        arrays[place.rpartition("/")[0]].append(array)
        stored[place.partition("/")[0]] += _stored_bytes(f"{snapshot.path}/{place}")
    orders: dict[str, float] = {}  # static layers have none of their own
    for place, attrs in snapshot.groups.items():
        stream, _, key = place.partition("/")
        if key:
            signals = tuple(_signal(array) for array in arrays[place])
            layer = LayerSummary(str(attrs.get("name", key)), signals, attrs)
            layers[stream].append(layer)
            orders[layer.name] = min(forward_order(attrs), orders.get(layer.name, float("inf")))
    for stream, own in layers.items():
        known = orders if stream == "static" else {}
        own.sort(
            key=lambda layer: (known.get(layer.name, forward_order(layer.attrs)), _by_number(layer.name))
        )
    names = [*snapshot.attributes.committed, *(["static"] if "static" in snapshot.groups else [])]
    streams = tuple(_stream(snapshot, name, arrays[name], layers[name], stored[name]) for name in names)
    return RunSummary(info_of(snapshot), streams, sum(stream.stored_bytes for stream in streams))


def _stream(
    snapshot: Snapshot, name: str, own: list[StoredArray], layers: list[LayerSummary], stored_bytes: int
) -> StreamSummary:
    steps = read_steps(snapshot, name) if name in snapshot.attributes.committed else np.empty(0, np.int64)
    attrs = snapshot.groups.get(name, {})
    every = attrs.get("every")
    distances = np.diff(steps)
    if type(every) is not int or every < 1:
        every = Counter(distances.tolist()).most_common(1)[0][0] if len(distances) else None
    wide = np.flatnonzero(distances > every) if every else np.empty(0, np.int64)
    return StreamSummary(
        name,
        len(steps),
        int(steps[0]) if len(steps) else None,
        int(steps[-1]) if len(steps) else None,
        every,
        tuple((int(steps[i]), int(steps[i + 1])) for i in wide),
        snapshot.attributes.skipped.get(name, {}).get("count", 0),
        stored_bytes,
        tuple(layers),
        tuple(signal for signal in map(_signal, own) if signal.name not in COORDINATES),
        attrs,
    )


def _by_number(name: str) -> list[str | int]:
    """Return a key that sorts ``10`` behind ``2``."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _signal(array: StoredArray) -> SignalSummary:
    layout, count = array.layout, array.attrs.get("nan_count")
    nbytes = layout.record_bytes * (layout.shape[0] if layout.stepped else 1)
    name = array.path.rpartition("/")[2]
    nan_count = count if type(count) is int else None
    return SignalSummary(name, layout.dims, layout.shape, layout.dtype, nbytes, nan_count, array.attrs)


def _stored_bytes(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in entries)
    except OSError:
        return 0
