"""Read the signals of one call of a layer and name their axes."""

import math
from typing import Any

from torch import nn

from fadiag.capture.layers.attributes import kernel_attrs, layer_attrs
from fadiag.capture.signals.axes import dims_of, dims_of_input
from fadiag.capture.signals.layer_signals import SignalTensor
from fadiag.capture.tracing.layer_call import REPLACED, Call
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError
from fadiag.signals import SIGNALS

__all__ = ["call_attrs", "is_table", "read_signal"]

#: The symbol of the place where a signal is read: the layer's output (a) or the gate's input (z). All other
#: signals are read at the gate's output (h).
_PLACES = {"error": "a", "error_post": "z"}


def call_attrs(call: Call, trace: Trace) -> dict[str, Any]:
    """Return the attributes that the store holds for one call of a layer."""
    attrs = layer_attrs(call.layer, call.order, trace.count, trace.last or call.layer)
    attrs |= {"name": call.name, "norm": call.norm, "gate": call.gate}
    if call.is_replaced:
        attrs |= {"no_modulator": REPLACED}
        attrs |= {"feedback_kind": "hook"} if attrs["feedback_kind"] == "exact" else {}
    return attrs


def is_table(call: Call) -> bool:
    """Return whether a call has one row for the whole batch, as a position embedding has."""
    return isinstance(call.layer.module, nn.Embedding) and call.a_shape[:1] == (1,)


def read_signal(name: str, call: Call) -> SignalTensor:
    """Return one signal of a call.

    Raises
    ------
    CaptureError
        The layer is a convolution and its output has no axis of samples.
    """
    value, weight, own = call.values[name], call.layer.weight, tuple(call.a_shape)
    _check_batched(call)
    if SIGNALS[name].shape == "weight":
        return SignalTensor(call.layer.matrix(value), call.layer.matrix_dims, kernel_attrs(weight))
    if SIGNALS[name].shape == "input":
        return SignalTensor(value, dims_of_input(value.dim(), weight))
    place = _PLACES.get(name, "h")
    moved = call.moved and place != "a"
    is_merged = len(own) > 2 and len(value) != own[0] and value.numel() == math.prod(own)
    if is_merged and not moved and own[0] and len(value) % own[0] == 0:
        # A batch norm gets samples and positions on one axis: split it.
        value = value.reshape(own[0], -1, *value.shape[1:])
    return SignalTensor(value, dims_of(tuple(value.shape), weight, own, place, moved=moved))


def _check_batched(call: Call) -> None:
    is_convolution = isinstance(call.layer.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if is_convolution and len(call.a_shape) < call.layer.weight.dim():
        raise CaptureError(
            f"layer {call.name!r} ({type(call.layer.module).__name__}) returned {tuple(call.a_shape)}, one "
            "sample without an axis of samples; give the model a batch (x.unsqueeze(0)), or "
            "leave the layer out"
        )
