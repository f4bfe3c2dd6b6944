"""Check the arrays that a user gives to ``record_arrays``, and name their axes."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.capture.signals.layer_signals import SignalArray
from fadiag.errors import InputError
from fadiag.signals import SIGNALS, StreamKind

__all__ = [
    "Floats",
    "as_floats",
    "check_layer",
    "check_name",
    "check_outputs",
    "check_samples",
    "check_signal",
    "with_dims",
]

Floats = NDArray[np.floating[Any]]

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
#: The allowed numbers of axes of a signal by its shape, and a description of the axes.
_AXES = {
    "output": ((2, 3, 4, 5), "(samples, units) or (samples, channels, *positions)"),
    "input": ((2, 3, 4, 5), "(samples, units) or (samples, channels, *positions)"),
    "weight": ((2, 3, 4, 5), "(out, in), or (out, in, *kernel)"),
    "bias": ((1,), "(out,)"),
    "sample": ((1,), "(samples,)"),
    "scalar": ((0,), "a number"),
}


def as_floats(what: str, given: Any) -> Floats:
    """Return a copy of an array or tensor in float32 or float64.

    Examples
    --------
    >>> as_floats("error", [[1.0, 2.0]]).dtype
    dtype('float64')
    """
    if hasattr(given, "detach"):
        tensor = given.detach().cpu()
        given = (tensor.float() if tensor.element_size() == 2 else tensor).numpy()
    array = np.asarray(given)
    if array.dtype.kind != "f":
        raise InputError(f"{what} is an array of {array.dtype}; give floating point numbers")
    return array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)


def check_name(layer: str, layers: Sequence[str]) -> None:
    """Raise InputError if no layer has the given name."""
    if layer not in layers:
        near = get_close_matches(str(layer), layers, n=3, cutoff=0.4)
        names = ", ".join(map(repr, near or layers))
        raise InputError(f"unknown layer {layer!r}; {'similar names are' if near else 'there are'} {names}")


def check_samples(layers: Mapping[str, Mapping[str, Floats]]) -> None:
    """Raise InputError if the signals of a step have different numbers of samples."""
    counts: dict[int, str] = {}
    for name, arrays in layers.items():
        for signal, array in arrays.items():
            if SIGNALS[signal].per_sample:
                counts.setdefault(len(array), f"{signal} of layer {name!r}")
    if len(counts) > 1:
        which = " and ".join(f"{what} has {count}" for count, what in counts.items())
        raise InputError(f"the signals of a step are of one batch, and {which} samples")


def check_outputs(feedback: Mapping[str, Floats], outputs: int) -> None:
    """Raise InputError if direct feedback does not start at the network's outputs."""
    for name, given in feedback.items():
        if len(given) != outputs:
            raise InputError(
                f"the feedback of layer {name!r} has shape {given.shape}, and the network has {outputs} "
                "outputs; direct feedback is (outputs, units), under the layer that it credits"
            )


def check_signal(signal: str, what: str, kind: StreamKind) -> None:
    """Raise InputError if a signal belongs neither to the batch's stream nor to the state stream.

    Parameters
    ----------
    signal : str
    what : str
        The signal and its layer, for the message.
    kind : {"probe", "live"}
        The kind of the batch's stream.
    """
    open_to = [name for name, known in SIGNALS.items() if {kind, "state"} & {*known.streams}]
    if signal in open_to:
        return
    if signal not in SIGNALS:
        near = get_close_matches(str(signal), open_to, n=3, cutoff=0.4)
        way_out = f"{'similar names are' if near else 'there are'} {', '.join(near or open_to)}"
    elif "static" in SIGNALS[signal].streams:
        way_out = f"it is taken from the {signal.removesuffix('_init')} of step 0"
    else:
        way_out = "a training batch has no such signal; give record_arrays(stream='probe')"
    raise InputError(f"{what} cannot be recorded; {way_out}")


def check_layer(name: str, arrays: Mapping[str, Floats], *, feedback: Floats | None, is_direct: bool) -> None:
    """Raise InputError if the arrays of a layer do not fit each other.

    Parameters
    ----------
    name : str
        The layer's name.
    arrays : mapping of str to array
        Its signals.
    feedback : array, optional
        Its fixed feedback.
    is_direct : bool
        Whether the feedback goes from the network's outputs to the layer. It then has another shape than the
        weight.
    """
    for signal, array in arrays.items():
        axes, words = _AXES[SIGNALS[signal].shape]
        if array.ndim not in axes:
            raise InputError(f"{signal} of layer {name!r} has shape {array.shape}; it is {words}")
    weight = arrays.get("weight")
    errors = {s: a for s, a in arrays.items() if s in ("error", "error_bp")}
    if len({a.shape for a in errors.values()}) > 1:
        shapes = " and ".join(f"{s} {a.shape}" for s, a in errors.items())
        raise InputError(f"layer {name!r} has {shapes}; they are of one shape")
    if weight is None:
        return
    matrix = weight.shape
    for signal, array in {**arrays, **({} if feedback is None else {"feedback": feedback})}.items():
        shape, expected = SIGNALS[signal].shape, matrix
        if shape == "bias":
            expected = matrix[:1]
        elif shape != "weight" or (signal == "feedback" and is_direct):
            continue
        if array.shape != expected:
            raise InputError(
                f"{signal} of layer {name!r} has shape {array.shape}, and its weight, (out, in), {matrix}; "
                f"it must be {expected}"
            )
    for signal, array in errors.items():
        if array.shape[1] != matrix[0]:
            turned = array.shape[1] == matrix[1]
            raise InputError(
                f"{signal} of layer {name!r} has {array.shape[1]} units, and its weight, (out, in), is "
                f"{matrix}; " + ("give the weight transposed" if turned else "the two are not of one layer")
            )


def with_dims(arrays: Mapping[str, Floats], *, is_direct: bool) -> dict[str, SignalArray]:
    """Name the axes of a layer's arrays. Within a layer, axes of one name have one length."""
    own = next((a.shape for s, a in arrays.items() if SIGNALS[s].shape == "output" and "error" in s), ())
    return {signal: _with_dims(signal, array, own, is_direct=is_direct) for signal, array in arrays.items()}


def _with_dims(signal: str, array: Floats, own: tuple[int, ...], *, is_direct: bool) -> SignalArray:
    shape, count = SIGNALS[signal].shape, array.ndim
    attrs: dict[str, Any] = {}
    if shape == "weight":
        dims: tuple[str, ...] = ("out", "in")
        if signal == "feedback" and is_direct:
            dims = ("output", "consumer_in")
        elif count > 2:
            attrs = {"unfolding": "out x in*kernel", "kernel_shape": list(array.shape[2:])}
        array = array.reshape(len(array), -1)
    elif shape == "output":
        dims = ("sample", "out") if count == 2 else ("sample", "channel", *_SPACE[count - 2])
        if own and array.shape != own:
            dims = ("sample", "h_channel", *(f"h_{i}" for i in range(2, count)))
    elif shape == "input":
        dims = (
            ("sample", "in")
            if count == 2
            else ("sample", "input_channel", *(f"input_{i}" for i in range(2, count)))
        )
    else:
        dims = {"bias": ("out",), "sample": ("sample",), "scalar": ()}[shape]
    return SignalArray(array, dims, attrs)
