"""Hearing the backward pass at the points of a forward pass, and keeping the values that were there.

Every listener is a tensor hook: after an in-place gate nothing else sees dL/da.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fadiag.capture.ways import Point

__all__ = ["Listener", "Purpose"]

#: What a layer without a gate has alike: dL/dz.
_UNGATED = frozenset({"modulator", "error_post"})
#: The kinds of points that are h where there is no gate.
_BASES = frozenset({"output", "norm"})


class Purpose(IntEnum):
    """What backward passes through a forward pass were for; each counts for more than those before it."""

    UNHEARD = 0
    #: To the input, or to another model.
    ELSEWHERE = 1
    #: `torch.autograd.grad` was asked for a recorded weight's gradient.
    ASKED = 2
    #: A recorded weight's ``.grad`` was added to.
    TRAINS = 3


class Listener:
    """What is seen at the points of one forward pass.

    Several backward passes through it add up, if they have one purpose. Of several purposes the last in
    `Purpose` counts: what is asked for on the way, a saliency or the norm of a task's gradient, does not
    train.
    """

    def __init__(self, wanted: Collection[str], *, keep_edges: bool) -> None:
        self.purpose = Purpose.UNHEARD
        self._weights: Sequence[GradientEdge] = ()
        self._purposes: dict[int, Purpose] = {}  # by the engine's number of a backward pass
        self._wanted = frozenset(wanted)
        self._keep_edges = keep_edges
        self._handles: list[Any] = []
        self._points: list[Point] = []

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def note_weights(self, edges: Sequence[GradientEdge]) -> None:
        """Note the places of the recorded weights in the graph."""
        self._weights = edges

    def forget_heard(self) -> None:
        """Forget what was heard so far: a backward pass made inside the loss."""
        self.purpose = Purpose.UNHEARD
        for point in self._points:
            point.heard, point.gradient = False, None

    def reach(self, tensor: Tensor, point: Point) -> None:
        """Listen at a point, and keep of it what is wanted where it may turn out to be h."""
        if point.kind == "gate" and point.before is not None and point.before.stage != "gated":
            self.listen(tensor, point, "modulator")
        elif point.kind in _BASES:
            self.listen(tensor, point, *_UNGATED, *(["error"] if point.kind == "output" else []))
        else:
            self.listen(tensor, point)
            return
        if self._keep_edges and tensor.requires_grad:
            point.edge = get_gradient_edge(tensor)
        if "activation" in self._wanted:
            self._settle(tensor, point)

    def _settle(self, h: Tensor, point: Point) -> None:
        before = point.before
        held = before.activation if before is not None and before.uses == [point] else None
        if before is not None and held is not None and _is_like(held, h):
            # Fresh memory, at the norm and at the gate again, costs more.
            before.activation, point.activation = None, held.copy_(h.detach())
        else:
            point.activation = h.detach().clone()

    def restore(self, tensor: Tensor, points: Iterable[Point]) -> None:
        """Keep the values again of what its norm or gate has taken the memory of, and is taken once more."""
        for point in points:
            gone = point.kind in _BASES and point.uses and point.activation is None
            if gone and "activation" in self._wanted:
                point.activation = tensor.detach().clone()

    def listen(self, tensor: Tensor, point: Point, *signals: str) -> None:
        """Hear the gradient of a tensor, and keep it at its point where one of the signals is wanted."""
        point.kept |= not self._wanted.isdisjoint(signals)
        if not tensor.requires_grad:
            point.heard = True
        if point.listening or not tensor.requires_grad:
            return
        point.listening = True
        self._points.append(point)
        self._handles.append(tensor.register_hook(partial(self._hear, point)))  # type: ignore[no-untyped-call]

    def listen_behind(self, view: Tensor, points: Iterable[Point]) -> None:
        """Hear at points whose tensor is a view that an operation has just changed in place.

        The graph does not lead through the view's own node any more, but to what the view is of.
        """
        base = view._base
        if base is None or base.grad_fn is None or not base.grad_fn.name().endswith("CopySlices"):
            return
        place = view.shape, view.stride(), view.storage_offset() - base.storage_offset()
        like = base.detach()

        def hear(point: Point, before: Sequence[Tensor | None], after: Sequence[Tensor | None]) -> None:
            if before[0] is not None:
                whole = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)
                self._hear(point, whole.copy_(before[0]).as_strided(*place))

        self._handles += [base.grad_fn.register_hook(partial(hear, p)) for p in points if p.listening]

    def _hear(self, point: Point, gradient: Tensor) -> None:
        if torch.is_grad_enabled():
            return  # a pass with create_graph=True: a penalty's inner one
        purpose = self._purpose_of_pass()
        if purpose > self.purpose:
            self.forget_heard()
            self.purpose = purpose
        elif purpose < self.purpose:
            return
        point.heard = True
        if point.kept and point.gradient is None:
            point.gradient = gradient.detach().reshape(point.shape).clone()
        elif point.gradient is not None:
            point.gradient += gradient.detach().reshape(point.shape)

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
