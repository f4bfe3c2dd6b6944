"""TrackedTensors remembers the tensors that were made from the output of a layer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from torch import Tensor

from fadiag.capture.tracing.dataflow import Node
from fadiag.capture.tracing.layer_call import Call

__all__ = ["CallNodes", "TrackedTensor", "TrackedTensors", "tensors_in"]

#: The calls whose outputs a tensor was made from, each with the tensor's node.
CallNodes = Sequence[tuple[Call, Node]]


@dataclass(frozen=True)
class TrackedTensor:
    """A tensor and its nodes. The reference is weak, so a later tensor may have the same id."""

    tensor: ref[Tensor]
    grad_fn: Any
    nodes: CallNodes


class TrackedTensors:
    """The tensors of one forward pass, by identity and by their place in autograd's graph."""

    def __init__(self) -> None:
        self._by_id: dict[int, TrackedTensor] = {}
        self._by_edge: dict[tuple[Any, int], TrackedTensor] = {}

    def __bool__(self) -> bool:
        """Return whether any tensor is tracked."""
        return bool(self._by_id)

    def add(self, tensor: Tensor, nodes: CallNodes) -> None:
        """Remember a tensor and its nodes; none if it no longer has any."""
        grad_fn: Any = tensor.grad_fn
        tracked = self._by_id[id(tensor)] = TrackedTensor(ref(tensor), grad_fn, nodes)
        if nodes and grad_fn is not None:
            self._by_edge[grad_fn, tensor.output_nr] = tracked

    def get(self, tensor: Tensor) -> TrackedTensor | None:
        """Return the record of a tensor, or None."""
        tracked = self._by_id.get(id(tensor))
        return tracked if tracked is not None and tracked.tensor() is tensor else None

    def at_edges(self, edges: Sequence[tuple[Any, int]]) -> list[TrackedTensor]:
        """Return the records of the tensors at places in autograd's graph; a tensor may no longer exist."""
        return [self._by_edge[edge] for edge in edges if edge in self._by_edge]

    def clear(self) -> None:
        """Forget all tensors."""
        self._by_id.clear()
        self._by_edge.clear()


def tensors_in(given: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings.

    Examples
    --------
    >>> import torch
    >>> [len(tensor) for tensor in tensors_in([torch.zeros(2), {"x": (torch.zeros(3), 1)}])]
    [2, 3]
    """
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list)):
        for item in given:
            yield from tensors_in(item)
    elif isinstance(given, Mapping):
        yield from tensors_in(list(given.values()))
