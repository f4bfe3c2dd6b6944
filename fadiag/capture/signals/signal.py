"""What is handed to the store: arrays with named axes, and what is said of their layer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fadiag.capture.signals.arrays import Array

__all__ = [
    "ONE_SHAPE",
    "LayerSignals",
    "Reading",
    "SignalArray",
    "batch_rows",
]


#: What to do where positions vary from batch to batch.
ONE_SHAPE = (
    "a signal has one shape in a store: pad every batch to one length, record with reduction='factor' and "
    "unfolding='channels' (positions are rows then), or record a Probe, whose batch is fixed"
)


@dataclass(frozen=True)
class SignalArray:
    """One array with the names of its axes."""

    array: Array
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """One signal as it was read, still a tensor, with the names of its axes."""

    values: Tensor
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def of_samples(self) -> bool:
        """Tell whether its first axis is the batch's."""
        return self.dims[0] == "sample"


@dataclass(frozen=True)
class LayerSignals:
    """What was read of one layer (at one call of it, in a probe)."""

    name: str
    attrs: Mapping[str, Any]
    signals: Mapping[str, SignalArray]

    @property
    def rows(self) -> int | None:
        """The number of samples that it saw; None where it has no signal of samples."""
        return max((len(s.array) for s in self.signals.values() if s.dims[:1] == ("sample",)), default=None)


def batch_rows(layers: Iterable[Mapping[str, Sequence[Reading]]]) -> int:
    """Return the number of samples of a batch, from the readings (a list of micro-batches each) of layers.

    They are those of the last layer that has any, where the loss is taken: those below may see other samples
    (an expert's share, both halves of a pair, a table of positions).
    """
    found = 0
    for readings in layers:
        counts = [sum(len(p.values) for p in parts) for parts in readings.values() if parts[0].of_samples]
        found = max(counts, default=found)
    return found
