"""What is handed to the store: arrays with named axes, and what is said of their layer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fadiag.capture.arrays import Array, dims_of
from fadiag.capture.call import Call
from fadiag.capture.layers import RecordedLayer
from fadiag.capture.trace import Trace
from fadiag.errors import CaptureError

__all__ = [
    "ONE_SHAPE",
    "LayerSignals",
    "Reading",
    "Signal",
    "batch_rows",
    "call_attrs",
    "kernel_attrs",
    "layer_attrs",
    "reading_of",
]


#: What to do where positions vary from batch to batch.
ONE_SHAPE = (
    "a signal has one shape in a store: pad every batch to one length, record with reduction='factor' and "
    "unfolding='channels' (positions are rows then), or record a Probe, whose batch is fixed"
)


@dataclass(frozen=True)
class Signal:
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
    signals: Mapping[str, Signal]

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


def kernel_attrs(weight: Tensor) -> dict[str, Any]:
    """Return the attributes of a weight that was unfolded to two axes."""
    if weight.dim() <= 2:
        return {}
    return {"unfolding": "out x in*kernel", "kernel_shape": list(weight.shape[2:])}


def layer_attrs(layer: RecordedLayer, order: int, count: int, last: RecordedLayer) -> dict[str, Any]:
    """Return what the store says of a layer, whatever the stream.

    Parameters
    ----------
    layer : RecordedLayer
    order, count : int
        Its place among all layers of the model (their calls, in a stream of passes), recorded or not, and
        their number.
    last : RecordedLayer
        The model's last layer, recorded or not: its outputs are the classes.
    """
    return {
        "name": layer.name,
        "type": type(layer.module).__name__,
        "order": order,
        "layers_in_model": count,
        "classes": last.outputs,
        "feedback_kind": layer.feedback_kind,
        "out_features": layer.outputs,
        "in_features": layer.weight.numel() // layer.outputs,
    }


def call_attrs(call: Call, trace: Trace) -> dict[str, Any]:
    """Return what the store says of one call of a layer in a pass."""
    told = layer_attrs(call.layer, call.order, trace.count, trace.last or call.layer)
    return {**told, "name": call.name, "norm": call.norm, "gate": call.gate}


def reading_of(name: str, call: Call) -> Reading:
    """Return a signal that was seen at a call."""
    value, weight = call.values[name], call.layer.weight
    _check_batched(call)
    if name == "gradient":
        return Reading(call.layer.matrix(value), call.layer.matrix_dims, kernel_attrs(weight))
    if name == "input":
        # Never the output's own axes: the two may differ in length.
        dims = ("sample", "in") if value.dim() == 2 else _dims_of_input(value.dim(), weight)
    elif name == "error":
        dims = dims_of(tuple(value.shape), weight, tuple(call.a_shape), "a")
    else:
        own, prefix = tuple(call.a_shape), "z" if name == "error_post" else "h"
        if not call.moved and len(own) > 2 and len(value) != own[0] and value.numel() == math.prod(own):
            # Samples and positions on one axis, as a batch norm takes them: apart again.
            value = (
                value.reshape(own[0], -1, *value.shape[1:]) if own[0] and len(value) % own[0] == 0 else value
            )
        dims = dims_of(tuple(value.shape), weight, own, prefix, moved=call.moved)
    return Reading(value, dims)


def _dims_of_input(count: int, weight: Tensor) -> tuple[str, ...]:
    names = ["sample", *(f"input_{i}" for i in range(1, count))]
    if count > 1 and (weight.dim() == 2 or weight.dim() == count):
        names[-1 if weight.dim() == 2 else 1] = "input_channel"
    return tuple(names)


def _check_batched(call: Call) -> None:
    of_images = isinstance(call.layer.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if of_images and len(call.a_shape) < call.layer.weight.dim():
        raise CaptureError(
            f"layer {call.name!r} ({type(call.layer.module).__name__}) returned {tuple(call.a_shape)}, one "
            "sample without an axis of samples; give the model a batch (x.unsqueeze(0)), or "
            "leave the layer out"
        )
