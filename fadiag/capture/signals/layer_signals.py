"""LayerSignals holds the signals of one layer, with named axes, on their way to the store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fadiag.capture.signals.arrays import Array

__all__ = [
    "ONE_SHAPE",
    "LayerSignals",
    "SignalArray",
    "SignalTensor",
    "batch_size",
]


#: The advice for a user whose signals change in shape from batch to batch.
ONE_SHAPE = (
    "a signal has one shape in a store: pad every batch to one length, record with reduction='factor' and "
    "unfolding='channels' (positions are rows then), or record a Probe, whose batch is fixed"
)


@dataclass(frozen=True)
class SignalArray:
    """An array to store, with the names of its axes.

    Examples
    --------
    >>> import numpy as np
    >>> SignalArray(np.ones((8, 3)), ("sample", "out")).dims
    ('sample', 'out')
    """

    array: Array
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SignalTensor:
    """A signal of a pass before its reduction, with the names of its axes."""

    values: Tensor
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def per_sample(self) -> bool:
        """Whether the first axis is the samples of the batch."""
        return self.dims[0] == "sample"


@dataclass(frozen=True)
class LayerSignals:
    """The signals of one layer in one record, or of one call of the layer in a pass.

    Attributes
    ----------
    name : str
    attrs : mapping
        The attributes of the layer in the store.
    signals : mapping of str to SignalArray
    batch : int
        The number of recorded samples of the step's batch; 0 if the signals do not belong to a batch.
    room : int
        The number of samples for which the store needs room, if the layer saw fewer.

    Examples
    --------
    >>> import numpy as np
    >>> error = SignalArray(np.ones((8, 3)), ("sample", "out"))
    >>> LayerSignals("fc1", {"order": 0}, {"error": error}, batch=8).rows
    8
    """

    name: str
    attrs: Mapping[str, Any]
    signals: Mapping[str, SignalArray]
    batch: int = 0
    room: int = 0

    @property
    def rows(self) -> int | None:
        """The number of samples that the layer saw; None if no signal has an axis of samples."""
        return max((len(s.array) for s in self.signals.values() if s.dims[:1] == ("sample",)), default=None)


def batch_size(layers: Iterable[Mapping[str, Sequence[SignalTensor]]], outputs: int) -> int:
    """Return the number of samples in a batch, from the signals of its layers in forward order.

    The last layer with samples decides, because the loss is computed from it. Layers below may see other
    samples, such as both halves of each pair in a siamese network. If the layers see different numbers, the
    last one may be an expert or the head of one task, with only a part of the batch. Then the number of the
    model's outputs decides if it is larger. It does not decide in other cases, because a sequence model may
    return all its positions as samples.

    Parameters
    ----------
    layers : iterable of mapping of str to sequence of SignalTensor
        Each signal as a list of micro-batches.
    outputs : int
        The number of samples in the model's output.
    """
    counts = [
        max(sizes)
        for signals in layers
        if (sizes := [sum(len(p.values) for p in parts) for parts in signals.values() if parts[0].per_sample])
    ]
    size = counts[-1] if counts else 0
    return max(size, outputs) if len(set(counts)) > 1 or not counts else size
