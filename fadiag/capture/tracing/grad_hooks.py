"""Hearing the backward pass at the nodes of a forward pass, and keeping the values that were there.

Every listener is a tensor hook: after an in-place gate nothing else sees dL/da.
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

#: What a layer without a gate has alike: dL/dz.
_UNGATED = frozenset({"modulator", "error_post"})
#: The kinds of nodes that are h where there is no gate.
_BASES = frozenset({"output", "norm"})


class Purpose(IntEnum):
    """What backward passes through a forward pass were for; each counts for more than those before it."""

    NONE = 0
    #: To the input, or to another model.
    ELSEWHERE = 1
    #: `torch.autograd.grad` was asked for a recorded weight's gradient.
    ASKED = 2
    #: A recorded weight's ``.grad`` was added to.
    TRAINS = 3


class GradientRecorder:
    """What is seen at the nodes of one forward pass.

    Several backward passes through it add up, if they have one purpose. Of several purposes the last in
    `Purpose` counts: what is asked for on the way, a saliency or the norm of a task's gradient, does not
    train.
    """

    def __init__(self, wanted: Collection[str], *, keep_edges: bool) -> None:
        self.purpose = Purpose.NONE
        self._weights: Sequence[GradientEdge] = ()
        self._purposes: dict[int, Purpose] = {}  # by the engine's number of a backward pass
        self._wanted = frozenset(wanted)
        self._keep_edges = keep_edges
        self._handles: list[Any] = []
        self._nodes: list[Node] = []

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def note_weights(self, edges: Sequence[GradientEdge]) -> None:
        """Note the places of the recorded weights in the graph."""
        self._weights = edges

    def reset_gradients(self) -> None:
        """Forget what was heard so far: a backward pass made inside the loss."""
        self.purpose = Purpose.NONE
        for node in self._nodes:
            node.reached, node.gradient = False, None

    def on_output(self, tensor: Tensor, node: Node) -> None:
        """Listen at a node, and keep of it what is wanted where it may turn out to be h."""
        if node.kind == "gate" and node.before is not None and node.before.stage != "gated":
            self.watch(tensor, node, "modulator")
        elif node.kind in _BASES:
            self.watch(tensor, node, *_UNGATED, *(["error"] if node.kind == "output" else []))
        else:
            self.watch(tensor, node)
            return
        if self._keep_edges and tensor.requires_grad:
            node.edge = get_gradient_edge(tensor)
        if "activation" in self._wanted:
            self._settle(tensor, node)

    def _settle(self, h: Tensor, node: Node) -> None:
        before = node.before
        held = before.activation if before is not None and before.uses == [node] else None
        if before is not None and held is not None and _is_like(held, h):
            # Fresh memory, at the norm and at the gate again, costs more.
            before.activation, node.activation = None, held.copy_(h.detach())
        else:
            node.activation = h.detach().clone()

    def resave(self, tensor: Tensor, nodes: Iterable[Node]) -> None:
        """Keep the values again of what its norm or gate has taken the memory of, and is taken once more."""
        for node in nodes:
            gone = node.kind in _BASES and node.uses and node.activation is None
            if gone and "activation" in self._wanted:
                node.activation = tensor.detach().clone()

    def watch(self, tensor: Tensor, node: Node, *signals: str) -> None:
        """Hear the gradient of a tensor, and keep it at its node where one of the signals is wanted."""
        node.keeps_gradient |= not self._wanted.isdisjoint(signals)
        if not tensor.requires_grad:
            node.reached = True
        if node.hooked or not tensor.requires_grad:
            return
        node.hooked = True
        self._nodes.append(node)
        self._handles.append(tensor.register_hook(partial(self._on_gradient, node)))  # type: ignore[no-untyped-call]

    def watch_view(self, view: Tensor, nodes: Iterable[Node]) -> None:
        """Hear at nodes whose tensor is a view that an operation has just changed in place.

        The graph does not lead through the view's own node any more, but to what the view is of.
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

        self._handles += [base.grad_fn.register_hook(partial(on_node_gradient, p)) for p in nodes if p.hooked]

    def _on_gradient(self, node: Node, gradient: Tensor) -> None:
        if torch.is_grad_enabled():
            return  # a pass with create_graph=True: a penalty's inner one
        purpose = self._purpose_of_pass()
        if purpose > self.purpose:
            self.reset_gradients()
            self.purpose = purpose
        elif purpose < self.purpose:
            return
        node.reached = True
        if node.keeps_gradient and node.gradient is None:
            node.gradient = gradient.detach().reshape(node.shape).clone()
        elif node.gradient is not None:
            node.gradient += gradient.detach().reshape(node.shape)

    def _purpose_of_pass(self) -> Purpose:
        """Return what the backward pass that runs now is for."""
        number = torch._C._current_graph_task_id()
        if number not in self._purposes:
            self._purposes[number] = max(map(_purpose, self._weights), default=Purpose.ELSEWHERE)
        return self._purposes[number]


def _is_like(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


def _purpose(weight: GradientEdge) -> Purpose:
    try:
        due = torch._C._will_engine_execute_node(weight.node)
    except RuntimeError:  # torch does not tell it of a leaf that autograd.grad was asked for
        return Purpose.ASKED
    return Purpose.TRAINS if due else Purpose.ELSEWHERE
