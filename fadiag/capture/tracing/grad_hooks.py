"""GradientRecorder saves the values and gradients at the nodes of one forward pass.

It uses tensor hooks, because nothing else sees dL/da if an in-place gate overwrites a.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fadiag.capture.tracing.dataflow import Node

__all__ = ["GradientRecorder", "Purpose"]

#: The signals that equal dL/dz at a layer without a gate.
_UNGATED = frozenset({"modulator", "error_post"})
#: The kinds of nodes that can be h at a layer without a gate.
_BASES = frozenset({"output", "norm"})


class Purpose(IntEnum):
    """The purpose of the backward passes through a forward pass; a later one takes precedence."""

    NONE = 0
    #: Gradients of the input, or of another model.
    ELSEWHERE = 1
    #: `torch.autograd.grad` with respect to a recorded weight.
    ASKED = 2
    #: A recorded weight's ``.grad`` was accumulated.
    TRAINS = 3


class GradientRecorder:
    """Records the gradients that arrive at the nodes of one forward pass.

    Gradients of several backward passes with the same purpose add up. If the purposes differ, only the passes
    with the last one in `Purpose` count. So a saliency map, or the norm of one task's gradient, does not
    count in a training step.

    Parameters
    ----------
    wanted : collection of str
        The signals to save.
    save_edges : bool
        Whether to save the places of the layers' outputs, z and h in autograd's graph.

    Attributes
    ----------
    purpose : Purpose
        The purpose of the backward passes so far.
    """

    def __init__(self, wanted: Collection[str], *, save_edges: bool) -> None:
        self.purpose = Purpose.NONE
        self._weights: Sequence[GradientEdge] = ()
        self._purposes: dict[int, Purpose] = {}  # by autograd's number of a backward pass
        self._wanted = frozenset(wanted)
        self._save_edges = save_edges
        self._handles: list[Any] = []
        self._nodes: list[Node] = []

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def note_weights(self, edges: Sequence[GradientEdge]) -> None:
        """Store the places of the recorded weights in autograd's graph."""
        self._weights = edges

    def reset_gradients(self) -> None:
        """Drop the gradients recorded so far."""
        self.purpose = Purpose.NONE
        for node in self._nodes:
            node.got_gradient, node.gradient = False, None

    def on_output(self, tensor: Tensor, node: Node) -> None:
        """Watch a new tensor, and save its values if it may be h."""
        if node.kind == "gate" and node.parent is not None and node.parent.stage != "gated":
            self.watch(tensor, node, "modulator")
        elif node.kind in _BASES:
            self.watch(tensor, node, *_UNGATED, *(["error"] if node.kind == "output" else []))
        else:
            self.watch(tensor, node)
            return
        if self._save_edges and tensor.requires_grad:
            node.edge = get_gradient_edge(tensor)
        if "activation" in self._wanted:
            self._save_activation(tensor, node)

    def _save_activation(self, h: Tensor, node: Node) -> None:
        parent = node.parent
        memory = parent.activation if parent is not None and parent.uses == [node] else None
        if parent is not None and memory is not None and _is_like(memory, h):
            # Reuse the parent's memory: new memory at each norm and gate is slower.
            parent.activation, node.activation = None, memory.copy_(h.detach())
        else:
            node.activation = h.detach().clone()

    def resave(self, tensor: Tensor, nodes: Iterable[Node]) -> None:
        """Save an activation again if a later operation reused its memory and it is read a second time."""
        for node in nodes:
            reused = node.kind in _BASES and node.uses and node.activation is None
            if reused and "activation" in self._wanted:
                node.activation = tensor.detach().clone()

    def watch(self, tensor: Tensor, node: Node, *signals: str) -> None:
        """Attach a hook to a tensor, which saves the gradient at the node if one of the signals is wanted."""
        node.saves_gradient |= not self._wanted.isdisjoint(signals)
        if not tensor.requires_grad:
            node.got_gradient = True
        if node.hooked or not tensor.requires_grad:
            return
        node.hooked = True
        self._nodes.append(node)
        self._handles.append(tensor.register_hook(partial(self._on_gradient, node)))  # type: ignore[no-untyped-call]

    def watch_view(self, view: Tensor, nodes: Iterable[Node]) -> None:
        """Watch the nodes of a view that an operation has just changed in place.

        Autograd's graph then leads to the base of the view, not through the view.
        """
        base = view._base
        if base is None or base.grad_fn is None or not base.grad_fn.name().endswith("CopySlices"):
            return
        place = view.shape, view.stride(), view.storage_offset() - base.storage_offset()
        like = base.detach()

        def on_node_gradient(
            node: Node, before: Sequence[Tensor | None], after: Sequence[Tensor | None]
        ) -> None:
            if before[0] is not None:
                whole = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
                self._on_gradient(node, whole.copy_(before[0]).as_strided(*place))

        self._handles += [base.grad_fn.register_hook(partial(on_node_gradient, n)) for n in nodes if n.hooked]

    def _on_gradient(self, node: Node, gradient: Tensor) -> None:
        if torch.is_grad_enabled():
            return  # the inner pass of a penalty, with create_graph=True
        purpose = self._purpose_of_pass()
        if purpose > self.purpose:
            self.reset_gradients()
            self.purpose = purpose
        elif purpose < self.purpose:
            return
        node.got_gradient = True
        if node.saves_gradient and node.gradient is None:
            node.gradient = gradient.detach().reshape(node.shape).clone()
        elif node.gradient is not None:
            node.gradient += gradient.detach().reshape(node.shape)

    def _purpose_of_pass(self) -> Purpose:
        """Return the purpose of the running backward pass."""
        number = torch._C._current_graph_task_id()
        if number not in self._purposes:
            self._purposes[number] = max(map(_purpose, self._weights), default=Purpose.ELSEWHERE)
        return self._purposes[number]


def _is_like(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


def _purpose(weight: GradientEdge) -> Purpose:
    try:
        accumulates = torch._C._will_engine_execute_node(weight.node)
    except RuntimeError:  # torch raises this for a leaf that autograd.grad received
        return Purpose.ASKED
    return Purpose.TRAINS if accumulates else Purpose.ELSEWHERE
