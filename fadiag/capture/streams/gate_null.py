"""Draw the gate null: the error of a layer after a random rotation of the credit that its gate receives.

A consumer is a layer that reads the output of the layer in question. It sends a gradient to its input, and
the null rotates this gradient along the axis that the consumer's B multiplies. So B R takes the place of B,
where R is a Haar-random orthogonal matrix. The spectrum of the credit stays, and its directions change. The
rotated gradient then goes through the operations between the consumer and the layer's output. The errors
above, the masks, and the gradient that reaches the layer by a skip connection do not change.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.torch_layers import is_transposed
from fadiag.capture.passes.error_context import is_out_of_memory
from fadiag.capture.passes.passes import Passes
from fadiag.capture.streams.haar import Rotation
from fadiag.capture.streams.null_draws import NullDraws
from fadiag.capture.tracing.consumers import LayerPlace, find_consumers
from fadiag.capture.tracing.layer_call import REPLACED
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError

__all__ = ["draw_gate_nulls", "gate_null_absences"]

_HOOK = "BackwardHookFunctionBackward"


def gate_null_absences(trace: Trace) -> dict[str, str]:
    """Return the reason for each call that has no gate null. Other calls are not in the result.

    Parameters
    ----------
    trace : Trace
        A pass whose edges are saved.
    """
    consumers = find_consumers(trace.places)
    found = {
        call.name: f"{call.layer.sender.name!r} sends direct feedback to it"
        if call.layer.sender is not None and not call.layer.credits_input
        else REPLACED
        if call.is_replaced
        else _why_absent(trace.places, consumers.of[call.order], lost=call.order in consumers.lost)
        for call in trace.calls
    }
    return {name: why for name, why in found.items() if why}


def _why_absent(places: Sequence[LayerPlace], readers: Sequence[int], *, lost: bool) -> str:
    if lost:
        return "its output is changed in place"
    if not readers:
        return "no layer reads its output"
    calls = Counter(id(place.layer) for place in places)
    for place in (places[at] for at in readers):
        name, kind = place.layer.name, place.layer.adapter.feedback_kind
        if place.layer.adapter is unknown_layers or kind == "unknown" or place.output is None:
            return f"it is not known what its consumer {name!r} sends down"
        if place.layer.adapter.is_direct:
            return f"its consumer {name!r} sends direct feedback"
        if calls[id(place.layer)] > 1:
            return f"its consumer {name!r} is called more than once"
        axis = _units(place)
        if axis is None:
            return f"it is not known which axis of the input the weight of its consumer {name!r} multiplies"
        if place.input_shape[axis[0]] == axis[1]:
            return f"a single unit of it goes to its consumer {name!r}, or to each group there"
    return ""


def _units(place: LayerPlace) -> tuple[int, int] | None:
    """Return the axis of a consumer's units in its input, counted from the end, and the number of groups."""
    if len(place.inputs) != 1:
        return None
    layer, weight = place.layer, place.layer.weight
    axis = -max(1, weight.dim() - 1)
    groups = int(getattr(layer.module, "groups", 1)) if weight.dim() > 2 else 1
    units = weight.shape[layer.adapter.weight_dims.index("in")]
    if weight.dim() > 2 and not is_transposed(layer.module):
        units *= groups
    fits = len(place.input_shape) >= -axis and place.input_shape[axis] == units
    return (axis, groups) if fits else None


def draw_gate_nulls(passes: Passes, trace: Trace, draws: Mapping[str, NullDraws]) -> None:
    """Draw the gate nulls of calls and add each draw to ``draws``.

    Parameters
    ----------
    passes : Passes
    trace : Trace
        The model's own pass, whose graph is retained.
    draws : mapping of str to NullDraws
        Collect the errors, by call.

    Raises
    ------
    CaptureError
        A rule's backward pass cannot run twice through one forward pass.
    """
    calls = [call for call in trace.calls if call.name in draws]
    of = find_consumers(trace.places).of
    with passes.under({}):
        readers = {at for call in calls for at in of[call.order]}
        sent = {at: _sent_down(trace, trace.places[at]) for at in readers}
        for call in calls:
            end = trace.places[call.order].output
            live = {at: gradient for at in of[call.order] if (gradient := sent[at]) is not None}
            gradients = [*live.values()]
            if end is None or not live or not all(bool(one.isfinite().all()) for one in gradients):
                continue
            starts = [_below(trace.places[at].inputs[0]) for at in live]
            rotations = [_rotation(trace.places[at], gradient) for at, gradient in live.items()]
            error = _gradient(trace, end, call.name)
            assert error is not None  # only calls with an error have draws
            # The part of the error that comes by a skip connection: it is not rotated.
            rest = error - _pull_back(starts, gradients, end, call.name)
            generator = _generator(passes.seed, call.name)
            for draw in range(draws[call.name].count):
                rotated = [rotation.draw(generator) for rotation in rotations]
                draws[call.name].put(draw, _pull_back(starts, rotated, end, call.name) + rest)


def _sent_down(trace: Trace, place: LayerPlace) -> Tensor | None:
    """Return the gradient that a layer sends to its input; None if it has no part in the loss."""
    assert place.output is not None
    error = _gradient(trace, place.output, place.layer.name)
    if error is None:
        return None
    return _backward((place.output,), place.inputs, (error,), place.layer.name)


def _rotation(place: LayerPlace, gradient: Tensor) -> Rotation:
    axis = _units(place)
    assert axis is not None
    weight, at_in = place.layer.weight, place.layer.adapter.weight_dims.index("in")
    rank = weight.numel() // weight.shape[at_in]  # number of outputs times the kernel's positions
    return Rotation.of(gradient, *axis, rank)


def _gradient(trace: Trace, edge: GradientEdge, name: str) -> Tensor | None:
    assert trace.loss is not None
    return _backward((trace.loss,), (edge,), None, name)


def _pull_back(
    starts: Sequence[GradientEdge], gradients: Sequence[Tensor], end: GradientEdge, name: str
) -> Tensor:
    """Return the gradient at ``end`` for gradients at ``starts``."""
    error = _backward(starts, (end,), gradients, name)
    assert error is not None  # the end lies below the starts
    return error


def _backward(
    outputs: Sequence[Tensor] | Sequence[GradientEdge],
    inputs: Sequence[GradientEdge],
    gradients: Sequence[Tensor] | None,
    name: str,
) -> Tensor | None:
    """Return the gradient at the single input and retain the graph; ``name`` is the layer, for errors."""
    try:
        (found,) = torch.autograd.grad(outputs, inputs, gradients, retain_graph=True, allow_unused=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CaptureError(
            f"layer {name!r}: the gate null goes backward through one forward pass several times, and a "
            f"backward pass on the way raised {type(error).__name__}: {error}; give Probe(gate_draws=0)"
        ) from error
    return found


def _below(edge: GradientEdge) -> GradientEdge:
    """Return the edge of a module's input below the module's full backward hook, if it has one.

    The hook needs the gradient of the module's output first, and a rotated gradient has none.
    """
    node: Any = edge.node
    return GradientEdge(*node.next_functions[edge.output_nr]) if node.name() == _HOOK else edge


def _generator(seed: int, name: str) -> torch.Generator:
    """Return a generator for a layer's draws; its seed depends on the probe's seed and the layer's name."""
    digest = hashlib.sha256(f"fadiag gate null {seed} {name}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
