"""Find the layer that each module with direct feedback credits, and check that its adapter is right.

Which layer's output arrives at a module is seen in a forward pass. A skip connection would add a second
credit that F says nothing of, so it is refused.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.direct import DirectSender
from fadiag.capture.layers.selection import RecordedLayer, in_order
from fadiag.capture.passes.passes import Passes
from fadiag.capture.tracing.module_hooks import trace_calls
from fadiag.capture.tracing.trace import LayerInput
from fadiag.errors import CaptureError, InputError

__all__ = ["check_senders", "link_senders"]

_LEFT_OUT = "leave the direct adapter out, and record the layers with check='warn'"


def link_senders(
    passes: Passes, senders: Sequence[DirectSender]
) -> tuple[tuple[RecordedLayer, ...], tuple[RecordedLayer, ...]]:
    """Return the recorded layers and the others, each with the module that sends direct feedback to it.

    Parameters
    ----------
    passes : Passes
        Of the first probe.
    senders : sequence of DirectSender

    Raises
    ------
    CaptureError
        A skip connection or a second sender at a layer with direct feedback, a head that shares its weight, a
        layer with feedback of both kinds, or a credited layer that cannot be seen.
    InputError
        A feedback that is not (outputs, consumer's input).
    """
    every = in_order(passes.model, (*passes.layers, *passes.others))
    by_name = {layer.name: layer for layer in every}
    inputs, last = _inputs(passes, every, senders)
    _check_head(last, every)
    found: dict[str, DirectSender] = {}
    for sender in senders:
        arriving = _credited(sender, inputs)
        if arriving is None:
            continue
        name, consumed = arriving
        layer = by_name[name]
        if name in found:
            raise CaptureError(
                f"layer {name!r} gets direct feedback from {found[name].name!r} and {sender.name!r}; one "
                "matrix is recorded for each layer, so give an adapter for one of them"
            )
        if not layer.adapter.is_direct and layer.adapter.feedback(layer.module) is not None:
            raise CaptureError(
                f"layer {name!r} has a layerwise feedback, and {sender.name!r} sends direct feedback to it; "
                "one feedback is recorded for each layer, so record them in models of their own"
            )
        _check_shape(sender, name, last.outputs, consumed.shape)
        found[name] = sender
    sending = {id(sender.module) for sender in found.values()}

    def linked(layers: Sequence[RecordedLayer]) -> tuple[RecordedLayer, ...]:
        return tuple(
            replace(layer, sender=found.get(layer.name), sends=id(layer.module) in sending)
            for layer in layers
        )

    return linked(passes.layers), linked(passes.others)


def _inputs(
    passes: Passes, every: Sequence[RecordedLayer], senders: Sequence[DirectSender]
) -> tuple[list[LayerInput], RecordedLayer]:
    """Return what each layer and sender was called with in a forward pass, and the last layer."""
    known = [layer for layer in every if layer.adapter is not unknown_layers]
    modules = {id(layer.module) for layer in every}
    further = [RecordedLayer(s.name, s.module, s.adapter) for s in senders if id(s.module) not in modules]
    unknown = [layer for layer in every if layer.adapter is unknown_layers]
    with (
        passes.under({}),
        trace_calls(passes.model, known, (), others=(*unknown, *further)) as trace,
    ):
        passes.loss_of_batch()
    trace.stop()
    called = [given.layer for given in trace.inputs]
    by_name = {layer.name: layer for layer in every}
    last = next((by_name[name] for name in reversed(called) if name in by_name), every[-1])
    return trace.inputs, last


def _credited(sender: DirectSender, inputs: Sequence[LayerInput]) -> tuple[str, LayerInput] | None:
    """Return the layer that a module credits, and what the consumer was called with; None without credit."""
    name = sender.name
    outside = [given for given in inputs if not given.layer.startswith(f"{name}.")]
    if sender.adapter.credits == "input":
        given = [x for x in outside if x.layer == name and x.requires_grad]
        sources = dict.fromkeys(source for x in given for source in x.sources)
        if not given:  # it is not called, or with data, which need no credit
            return None
        if not sources:
            raise CaptureError(
                f"module {name!r} sends direct feedback, and it cannot be seen which layer's output it is "
                "called with; give an adapter for that layer with credits='output'"
            )
        if len(sources) > 1:
            raise CaptureError(
                f"module {name!r} sends direct feedback, and its input is made of the outputs of "
                f"{_listed(sources)}: with a skip connection F is not the credit of one layer; {_LEFT_OUT}"
            )
        layer = next(iter(sources))
    else:
        layer = name
    uses = [x for x in outside if layer in x.sources]
    consumers = dict.fromkeys(x.layer for x in uses)
    if not uses:
        raise CaptureError(
            f"module {name!r} sends direct feedback to layer {layer!r}, whose output no layer takes; the "
            "last layer's error is the loss's own"
        )
    if len(consumers) > 1:
        raise CaptureError(
            f"layer {layer!r} gets direct feedback from {name!r}, and its output goes to "
            f"{_listed(consumers)}: with a skip connection F is not the layer's whole credit; {_LEFT_OUT}"
        )
    return layer, uses[0]


def _listed(names: Sequence[str] | dict[str, None]) -> str:
    return " and ".join(map(repr, names))


def _check_head(last: RecordedLayer, every: Sequence[RecordedLayer]) -> None:
    tied = [x.name for x in every if x is not last and x.adapter is not unknown_layers]
    weight = None if last.adapter is unknown_layers else last.weight
    for layer in every:
        if layer.name in tied and layer.weight is weight:
            raise CaptureError(
                f"head {last.name!r} shares its weight with {layer.name!r}: with direct feedback the weight "
                "gets its error and the feedback's at once, so no gradient is one rule's; untie them"
            )


def _check_shape(sender: DirectSender, layer: str, outputs: int, consumed: torch.Size) -> None:
    shape = tuple(sender.feedback.shape)
    columns = shape[1:] if len(shape) == 2 else (torch.Size(shape[1:]).numel(),)
    fitting = {consumed[1:].numel(), consumed[-1]}  # of a whole sample, or of each position
    if shape[0] != outputs or columns[0] not in fitting:
        turned = shape[::-1] == (outputs, consumed[1:].numel())
        raise InputError(
            f"the direct feedback of module {sender.name!r}, which credits layer {layer!r}, has shape "
            f"{shape}; it is (outputs, consumer's input), here {(outputs, consumed[1:].numel())}"
            + ("; is it kept the other way round? Then give the adapter transposed=True" if turned else "")
        )


def check_senders(passes: Passes) -> None:
    """Check that each direct adapter reads the feedback that is used, and that its ``using`` replaces it.

    Three passes: the model's own, one with the feedback that the adapters read, one with another.

    Raises
    ------
    InputError
        It names the layer, and what its adapter gets wrong.
    """
    layers = [layer for layer in passes.layers if layer.sender is not None]
    read = {layer.name: layer.feedback for layer in layers}
    drawn = passes.redrawn(torch.Generator().manual_seed(passes.seed))
    own, same, other = (_errors(passes, matrices) for matrices in ({}, read, drawn))
    for layer in layers:
        assert layer.sender is not None
        if layer.name not in own or not own[layer.name].any():
            continue
        where = f"the adapter of module {layer.sender.name!r}, which credits layer {layer.name!r}"
        if _distance(own[layer.name], other[layer.name]) == 0:
            raise InputError(
                f"{where}: using(module, matrix) has no effect on the error of that layer; it must put the "
                "matrix where the backward pass takes its feedback"
            )
        if _distance(own[layer.name], same[layer.name]) > 1e-3:
            raise InputError(
                f"{where}: with the matrix that feedback(module) reads the error of that layer is not "
                "the model's own; feedback= must read what the backward pass takes"
            )


def _errors(passes: Passes, matrices: dict[str, Tensor] | dict[str, Tensor | None]) -> dict[str, Tensor]:
    calls = passes.run(matrices, ("error",)).calls
    return {call.name: call.values["error"].double() for call in calls if "error" in call.values}


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm())
