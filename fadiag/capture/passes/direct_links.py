"""Find the layer that each module with direct feedback credits, and check the module's adapter.

A forward pass shows the layer whose output arrives at the module. A skip connection at that layer raises an
error: it would add a second credit, which F does not describe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.direct import DirectSender
from fadiag.capture.layers.selection import RecordedLayer, in_order
from fadiag.capture.passes.passes import Passes
from fadiag.capture.tracing.tracked_tensors import tensors_in
from fadiag.errors import CaptureError, InputError

__all__ = ["check_senders", "link_senders"]

#: The name of the loss among the consumers of a layer's output.
_LOSS = "the loss"
_LEFT_OUT = (
    "leave the direct adapter out and give check='warn': the error is recorded then, and error_bp is not"
)


@dataclass
class _Consumers:
    """The layers whose outputs each module reads in one forward pass, from autograd's graph.

    Attributes
    ----------
    sources : dict of str to set of str
        The layers and senders whose outputs a module's input was made from, without another in between.
    shapes : dict of str to torch.Size
        The shape of the first input that was made from such an output.
    graded : set of str
        The modules that have an input with a gradient.
    called : list of str
    """

    sources: dict[str, set[str]] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    graded: set[str] = field(default_factory=set)
    called: list[str] = field(default_factory=list)
    _outputs: dict[Any, str] = field(default_factory=dict)  # by their nodes in autograd's graph

    def on_call(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Record a call of a module, as a forward hook."""
        self.called.append(name)
        self.add(name, inputs)
        self._outputs |= {tensor.grad_fn: name for tensor in tensors_in(output) if tensor.grad_fn}

    def add(self, name: str, inputs: Any) -> None:
        """Add the layers whose outputs a module reads."""
        for tensor in tensors_in(inputs):
            if tensor.requires_grad:
                self.graded.add(name)
            if found := self._sources_of(tensor):
                self.sources.setdefault(name, set()).update(found)
                self.shapes.setdefault(name, tensor.shape)

    def of(self, layer: str, *, without: str) -> list[str]:
        """Return the modules that read a layer's output, except the modules inside ``without``."""
        named = [n for n, found in self.sources.items() if layer in found]
        return sorted(name for name in named if not name.startswith(f"{without}."))

    def _sources_of(self, tensor: Tensor) -> set[str]:
        nodes, seen, found = [tensor.grad_fn], set(), set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self._outputs:
                found.add(self._outputs[node])
            else:
                nodes += [parent for parent, _ in node.next_functions]
        return found


def link_senders(
    passes: Passes, senders: Sequence[DirectSender]
) -> tuple[tuple[RecordedLayer, ...], tuple[RecordedLayer, ...]]:
    """Return the recorded layers and the others, each with the module that sends direct feedback to it.

    Parameters
    ----------
    passes : Passes
        The passes of the first probe.
    senders : sequence of DirectSender

    Raises
    ------
    CaptureError
        A layer with direct feedback has a skip connection, a second sender or a layerwise feedback too.
        The head shares its weight, or no layer that a sender credits can be found.
    InputError
        The shape of a feedback is not (outputs, consumer's input).
    """
    every = in_order(passes.model, (*passes.layers, *passes.others))
    by_name = {layer.name: layer for layer in every}
    consumers = _consumers(passes, {s.name: s.module for s in senders} | {x.name: x.module for x in every})
    last = next(by_name[name] for name in reversed(consumers.called) if name in by_name)
    _check_head(last, every)
    found: dict[str, DirectSender] = {}
    for sender in senders:
        credit = _credited(sender, consumers)
        if credit is None:
            continue
        name, consumed = credit
        while name not in by_name:  # another module that sends direct feedback is in between
            name = min(consumers.sources[name])
        layer = by_name[name]
        if name in found:
            raise CaptureError(
                f"layer {name!r} gets direct feedback from {found[name].name!r} and {sender.name!r}; one "
                "matrix is recorded for each layer, so give an adapter for one of them"
            )
        if not layer.adapter.is_direct and layer.adapter.feedback(layer.module) is not None:
            raise CaptureError(
                f"layer {name!r} has a layerwise feedback, and {sender.name!r} sends direct feedback to it; "
                "one feedback is recorded for each layer, so record them in separate models"
            )
        _check_shape(sender, name, last.outputs, consumed)
        found[name] = sender
    sending = {id(sender.module) for sender in found.values()}

    def linked(layers: Sequence[RecordedLayer]) -> tuple[RecordedLayer, ...]:
        return tuple(
            replace(layer, sender=found.get(layer.name), sends=id(layer.module) in sending)
            for layer in layers
        )

    return linked(passes.layers), linked(passes.others)


def _consumers(passes: Passes, modules: Mapping[str, nn.Module]) -> _Consumers:
    consumers = _Consumers()
    with passes.under({}):
        handles = [
            module.register_forward_hook(partial(consumers.on_call, name)) for name, module in modules.items()
        ]
        try:
            consumers.add(_LOSS, passes.loss_of_batch())
        finally:
            for handle in handles:
                handle.remove()
    return consumers


def _credited(sender: DirectSender, consumers: _Consumers) -> tuple[str, torch.Size] | None:
    """Return the layer that a module credits, and the shape of the consumer's input; None if no layer."""
    name = layer = sender.name
    if sender.adapter.credits == "input":
        if name not in consumers.graded:  # it is not called, or called with data, which needs no credit
            return None
        sources = consumers.sources.get(name, set())
        if len(sources) != 1:
            what = f"the outputs of {_listed(sorted(sources))}" if sources else "no layer's output"
            raise CaptureError(
                f"module {name!r} sends direct feedback, and its input is made of {what}: F is the credit of "
                f"one layer, without a skip connection; {_LEFT_OUT}"
            )
        (layer,) = sources
    uses = consumers.of(layer, without=name)
    if len(uses) > 1:
        raise CaptureError(
            f"layer {layer!r} gets direct feedback from {name!r}, and its output goes to {_listed(uses)}: "
            f"across a skip connection F is not the layer's whole credit; {_LEFT_OUT}"
        )
    if uses in ([], [_LOSS]):
        raise CaptureError(
            f"module {name!r} sends direct feedback to layer {layer!r}, whose output goes to no other layer; "
            "the error of the last layer is the loss's own"
        )
    return layer, consumers.shapes[uses[0]]


def _listed(names: Sequence[str]) -> str:
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
            + ("; is it stored transposed? Then give the adapter transposed=True" if turned else "")
        )


def check_senders(passes: Passes) -> None:
    """Check that each direct adapter reads the feedback in use, and that its ``using`` replaces it.

    This takes three passes: with the model's own feedback, with the feedback that the adapters read, and with
    another feedback.

    Raises
    ------
    InputError
        An adapter is wrong; the message names the layer and the mistake.
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
                "matrix where the backward pass reads its feedback"
            )
        if _distance(own[layer.name], same[layer.name]) > 1e-3:
            raise InputError(
                f"{where}: with the matrix that feedback(module) reads, the error of that layer is not "
                "the model's own; feedback= must read the matrix that the backward pass uses"
            )


def _errors(passes: Passes, matrices: dict[str, Tensor] | dict[str, Tensor | None]) -> dict[str, Tensor]:
    calls = passes.run(matrices, ("error",)).calls
    return {call.name: call.values["error"].double() for call in calls if "error" in call.values}


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm())
