"""Find the layer that each module with direct feedback credits, and check the module's adapter.

A forward pass shows the layer whose output arrives at the module. Across a skip connection, F is not the
whole credit of one layer. Then a recorded layer that sends F keeps it as its own; another module raises an
error.
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
        A layer with direct feedback has a layerwise feedback too. Or it has a skip connection or a second
        sender, and a sender is no recorded layer. The head shares its weight, or no layer that a sender
        credits can be found.
    InputError
        The shape of a feedback is not (outputs, consumer's input).
    """
    every = in_order(passes.model, (*passes.layers, *passes.others))
    by_name = {layer.name: layer for layer in every}
    consumers = _consumers(passes, {s.name: s.module for s in senders} | {x.name: x.module for x in every})
    last = next(by_name[name] for name in reversed(consumers.called) if name in by_name)
    _check_head(last, every)
    links = _links(senders, consumers, by_name)
    found: dict[str, DirectSender] = {}
    for sender, (name, consumed) in links.items():
        layer = by_name[name]
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


def _links(
    senders: Sequence[DirectSender], consumers: _Consumers, by_name: Mapping[str, RecordedLayer]
) -> dict[DirectSender, tuple[str, torch.Size]]:
    """Return for each sender in use the layer that its F is recorded with, and the shape that F maps to.

    If one of them sends across a skip connection, all of them keep their F themselves.
    """
    used = [s for s in senders if s.adapter.credits == "output" or s.name in consumers.graded]
    try:
        return _links_of_chain(used, consumers, by_name)
    except CaptureError:
        if not all(_is_recorded(sender, by_name) for sender in used):
            raise
        return {sender: (sender.name, consumers.shapes[sender.name]) for sender in used}


def _links_of_chain(
    senders: Sequence[DirectSender], consumers: _Consumers, by_name: Mapping[str, RecordedLayer]
) -> dict[DirectSender, tuple[str, torch.Size]]:
    found: dict[str, DirectSender] = {}
    links: dict[DirectSender, tuple[str, torch.Size]] = {}
    for sender in senders:
        name, consumed = _credited(sender, consumers)
        while name not in by_name:  # another module that sends direct feedback is in between
            name = min(consumers.sources[name])
        if name in found:
            raise CaptureError(
                f"layer {name!r} gets direct feedback from {found[name].name!r} and {sender.name!r}; one "
                "matrix is recorded for each layer, so give an adapter for one of them"
            )
        found[name] = sender
        links[sender] = (name, consumed)
    return links


def _is_recorded(sender: DirectSender, by_name: Mapping[str, RecordedLayer]) -> bool:
    """Return whether the sender is a layer that can keep its F itself, as the credit of its input."""
    return (
        sender.adapter.credits == "input"
        and sender.name in by_name
        and by_name[sender.name].adapter.is_direct
    )


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


def _credited(sender: DirectSender, consumers: _Consumers) -> tuple[str, torch.Size]:
    """Return the layer that a module credits, and the shape of the consumer's input."""
    name = layer = sender.name
    if sender.adapter.credits == "input":
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
        # An F of the layer's own input acts on the errors of other layers, whichever these are.
        names = [name for name in (own if layer.credits_input else (layer.name,)) if name in own]
        if not any(own[name].any() for name in names):
            continue
        credited = f"layer {layer.name!r}" + ("'s input" if layer.credits_input else "")
        where = f"the adapter of module {layer.sender.name!r}, which credits {credited}"
        what = "any error" if layer.credits_input else "the error of that layer"
        if all(_distance(own[name], other[name]) == 0 for name in names):
            raise InputError(
                f"{where}: using(module, matrix) has no effect on {what}; it must put the "
                "matrix where the backward pass reads its feedback"
            )
        if any(_distance(own[name], same[name]) > 1e-3 for name in names):
            raise InputError(
                f"{where}: with the matrix that feedback(module) reads, {what} is not "
                "the model's own; feedback= must read the matrix that the backward pass uses"
            )


def _errors(passes: Passes, matrices: dict[str, Tensor] | dict[str, Tensor | None]) -> dict[str, Tensor]:
    calls = passes.run(matrices, ("error",)).calls
    return {call.name: call.values["error"].double() for call in calls if "error" in call.values}


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm().clamp(min=1e-300))  # a dead layer's error is 0
