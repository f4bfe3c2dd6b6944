"""Find the layers that read each layer's output, from autograd's graph of one forward pass."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.tracked_tensors import tensors_in

__all__ = ["Consumers", "LayerPlace", "find_consumers", "place_of"]


@dataclass(frozen=True)
class LayerPlace:
    """The place of one call of a layer in autograd's graph; the layer may be recorded or not.

    Parameters
    ----------
    layer : RecordedLayer
    inputs : tuple of GradientEdge
        The inputs that receive a gradient.
    input_shape : torch.Size
        The shape of the first such input.
    output : GradientEdge or None
        None if the output is not a single tensor, or has no gradient.
    """

    layer: RecordedLayer
    inputs: tuple[GradientEdge, ...]
    input_shape: torch.Size
    output: GradientEdge | None


@dataclass(frozen=True)
class Consumers:
    """The consumers of each call in a pass, in the order of the calls.

    Parameters
    ----------
    of : sequence of sequence of int
        The calls that read the output of each call without another layer in between. A consumer that follows
        another consumer is left out, because only a skip connection brings the output there.
    lost : set of int
        The calls whose output was changed in place, so that the graph no longer leads to the output itself.
    """

    of: Sequence[Sequence[int]]
    lost: frozenset[int]


def place_of(layer: RecordedLayer, inputs: Any, output: Any) -> LayerPlace:
    """Return the place of a call; use it after the forward pass of the call."""
    tensors = [t for t in tensors_in(inputs) if t.requires_grad and t.grad_fn is not None]
    edge = get_gradient_edge(output) if isinstance(output, Tensor) and output.requires_grad else None
    shape = tensors[0].shape if tensors else torch.Size()
    return LayerPlace(layer, tuple(map(get_gradient_edge, tensors)), shape, edge)


def find_consumers(places: Sequence[LayerPlace]) -> Consumers:
    """Return the consumers of each call of a layer.

    Parameters
    ----------
    places : sequence of LayerPlace
        The places, in the order of the calls.
    """
    owners: dict[Any, int] = {}
    for at, place in enumerate(places):
        if place.output is not None:
            outside = {*owners, *(edge.node for edge in place.inputs)}
            owners |= {node: at for node in _down([place.output.node], outside) if node not in outside}
    readers: list[list[int]] = [[] for _ in places]
    above = [0] * len(places)  # the layers before each call, as bits
    lost = set()
    for at, place in enumerate(places):
        ends = _down([edge.node for edge in place.inputs], owners.keys())
        for node in dict.fromkeys(node for node in ends if node in owners):
            source = owners[node]
            output = places[source].output
            if output is None or node is not output.node:
                lost.add(source)
            if at not in readers[source] and source != at:
                readers[source].append(at)
                above[at] |= above[source] | 1 << source
    of = [[at for at in found if not above[at] & sum(1 << other for other in found)] for found in readers]
    return Consumers(of, frozenset(lost))


def _down(nodes: Iterable[Any], ends: Any) -> Iterator[Any]:
    """Yield the nodes below some nodes of the graph, down to and including the first end on each path."""
    waiting, seen = list(nodes), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            waiting += [below for below, _ in node.next_functions]
