"""From one call of a layer to the signals read there, with named axes."""

import math
from typing import Any

from torch import Tensor, nn

from fadiag.capture.layers.attributes import kernel_attrs, layer_attrs
from fadiag.capture.signals.arrays import dims_of
from fadiag.capture.signals.signal import Reading
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError

__all__ = ["call_attrs", "reading_of"]


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
