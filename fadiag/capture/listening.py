"""Hearing the backward pass at the points of a forward pass, and keeping the values that were there.

Every listener is a tensor hook: after an in-place gate nothing else sees dL/da.
"""

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fadiag.capture.ways import Point

__all__ = ["Listener"]

#: What a layer without a gate has alike: dL/dz.
_UNGATED = frozenset({"modulator", "error_post"})
#: The kinds of points that are h where there is no gate.
_BASES = frozenset({"output", "norm"})


class Listener:
    """What is seen at the points of one forward pass.

    ``trains`` tells whether a backward pass from it gave a weight a gradient that was noted at an output.
    """

    def __init__(self, wanted: Collection[str], *, keep_edges: bool) -> None:
        self.trains = False
        self._wanted = frozenset(wanted)
        self._keep_edges = keep_edges
        self._handles: list[Any] = []
        self._points: list[Point] = []

    def stop(self) -> None:
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def forget_heard(self) -> None:
        """Forget what was heard so far: a backward pass made inside the loss."""
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

        def hear(gradient: Tensor) -> None:
            self.trains = self.trains or _is_due(point.weight_edge)
            if torch.is_grad_enabled():
                return  # a pass with create_graph=True: a penalty's inner one
            point.heard = True
            if point.kept and point.gradient is None:
                point.gradient = gradient.detach().reshape(point.shape).clone()
            elif point.gradient is not None:
                point.gradient += gradient.detach().reshape(point.shape)

        self._points.append(point)
        self._handles.append(tensor.register_hook(hear))  # type: ignore[no-untyped-call]


def _is_like(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)


def _is_due(edge: GradientEdge | None) -> bool:
    """Say whether the backward pass that runs now computes the gradient at an edge."""
    if edge is None:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(edge.node))
    except RuntimeError:  # torch does not tell it of a leaf that autograd.grad was asked for
        return True
