"""Find the layers that read a layer's output, in autograd's graph of one forward pass."""

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
    """The place of one call of a layer, recorded or not, in autograd's graph.

    Parameters
    ----------
    layer : RecordedLayer
    inputs : tuple of GradientEdge
        The inputs to which a gradient goes.
    input_shape : torch.Size
        The shape of the first of them.
    output : GradientEdge or None
        None if the output is no single tensor, or has no gradient.
    """

    layer: RecordedLayer
    inputs: tuple[GradientEdge, ...]
    input_shape: torch.Size
    output: GradientEdge | None


@dataclass(frozen=True)
class Consumers:
    """The consumers of each call in a pass, by the calls' order.

    Parameters
    ----------
    of : sequence of sequence of int
        The calls that read the output of each call with no other layer between. A consumer that another one
        leads to is left out: a skip brings the output there.
    lost : set of int
        The calls whose output was changed in place in such a way that the graph does not lead to it.
    """

    of: Sequence[Sequence[int]]
    lost: frozenset[int]


def place_of(layer: RecordedLayer, inputs: Any, output: Any) -> LayerPlace:
    """Return the place of a call, after its forward pass."""
    tensors = [t for t in tensors_in(inputs) if t.requires_grad and t.grad_fn is not None]
    edge = get_gradient_edge(output) if isinstance(output, Tensor) and output.requires_grad else None
    shape = tensors[0].shape if tensors else torch.Size()
    return LayerPlace(layer, tuple(map(get_gradient_edge, tensors)), shape, edge)


def find_consumers(places: Sequence[LayerPlace]) -> Consumers:
    """Return the consumers of each call of a layer.

    Parameters
    ----------
    places : sequence of LayerPlace
        In the order of the calls.
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
    """Yield the nodes from some nodes of the graph down to the first end on each path, ends included."""
    waiting, seen = list(nodes), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node not in ends:
            waiting += [below for below, _ in node.next_functions]
