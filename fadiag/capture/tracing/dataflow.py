"""Represent the operations on a layer's output as a graph, and find the layer's norm and gate in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from fadiag.capture.tracing.op_kinds import MOVES, Kind, is_loss

__all__ = ["ActivationPath", "Node", "activation_path", "advance"]

#: How a tensor relates to the layer. ``own``: the layer's output, possibly normalized, scaled or with moved
#: axes. ``shared``: a part of the output, or the output combined with other tensors. ``gated``: the output of
#: a gate. ``derived``: the result of an unknown operation.
_Stage = Literal["own", "shared", "gated", "derived"]
_STAGES: dict[Kind, _Stage] = {
    "norm": "own",
    "join": "shared",
    "part": "shared",
    "softmax": "shared",
    "gate": "gated",
    "unclear": "derived",
}
_DIVISIONS = frozenset({"div", "divide", "true_divide", "__truediv__", "__itruediv__"})
_PRODUCTS = frozenset({"mul", "multiply", "__mul__", "__rmul__", "__imul__"})
#: Whether a backward hook or function of the user's may replace the gradient between a tensor and its parent.
#: "maybe": if the two gradients differ, because the tensor has the same values as its parent.
_Replaced = Literal["no", "maybe", "yes"]


@dataclass(eq=False)
class Node:
    """A tensor that was made from a layer's output.

    Attributes
    ----------
    kind, name : str
        The operation that made the tensor; "output" and the layer's name for the output itself.
    stage : str
    shape : torch.Size
    parent : Node, optional
        The tensor from which this one was made; the first if there are several.
    uses : list of Node
        The tensors that were made from this one.
    hooked : bool
        Whether a tensor hook is attached to the tensor.
    saves_gradient : bool
        Whether the gradient that arrives is saved.
    got_gradient : bool
        Whether a gradient arrived. True if no hook can be attached.
    activation, gradient : Tensor, optional
        The saved values and the saved gradient.
    edge : torch.autograd.graph.GradientEdge, optional
        The tensor's place in autograd's graph, if it is saved.
    replaced : {"no", "maybe", "yes"}
        Whether the gradient may be replaced between this tensor and its parent.
    """

    kind: Kind | Literal["output"]
    name: str
    stage: _Stage
    shape: torch.Size
    parent: "Node | None" = None
    uses: list["Node"] = field(default_factory=list)
    hooked: bool = False
    saves_gradient: bool = False
    got_gradient: bool = False
    activation: Tensor | None = None
    gradient: Tensor | None = None
    edge: GradientEdge | None = None
    replaced: _Replaced = "no"

    def child(self, kind: Kind, name: str, shape: torch.Size) -> "Node":
        """Return a node for the result of an operation on this tensor."""
        stage = _STAGES.get(kind, self.stage)
        if self.stage == "gated" and kind == "part":
            stage = "gated"
        return Node(kind, name, stage, shape, self)

    def release(self) -> None:
        """Drop the tensors saved at this node and at all nodes below.

        Nodes refer to their parents and children. Without this call, the tensors would stay in memory until
        the garbage collector runs.
        """
        nodes = [self]
        while nodes:
            node = nodes.pop()
            nodes += node.uses
            node.uses, node.activation, node.gradient = [], None, None

    @property
    def moved(self) -> bool:
        """Whether axes were moved between the layer's output and this tensor."""
        return any(node.name in MOVES for node in (self, *_ancestors(self)))

    def suspect(self) -> None:
        """Save the gradients here and at the parent, to see whether the one is replaced by the other."""
        if self.parent is not None and self.shape == self.parent.shape:
            self.replaced = "maybe"
            self.saves_gradient = self.parent.saves_gradient = True

    def replaces_gradient(self, below: "Node") -> bool:
        """Return whether the gradient was replaced on its way from this tensor to ``below``."""
        node: Node | None = self
        while node is not None and node is not below:
            if node.replaced == "yes" or (node.replaced == "maybe" and node._differs_from_parent):
                return True
            node = node.parent
        return False

    @property
    def _differs_from_parent(self) -> bool:
        parent = self.parent
        if parent is None or parent.gradient is None or parent.uses_in_loss != [self]:
            return False
        return self.gradient is None or not torch.allclose(
            self.gradient, parent.gradient, rtol=0, atol=0, equal_nan=True
        )

    @property
    def uses_in_loss(self) -> list["Node"]:
        """The uses that contribute to the loss."""
        return [use for use in self.uses if use.in_loss]

    @property
    def in_loss(self) -> bool:
        """Whether the tensor contributes to the loss.

        A view that is changed in place receives no gradient itself. It then contributes if its results do.
        """
        return self.got_gradient or any(use.in_loss for use in self.uses)


def advance(
    name: str, kind: Kind, nodes: Sequence[Node], *, leads: bool, others: Sequence[Tensor], whole: bool
) -> tuple[Kind | None, str, Node]:
    """Decide the effect of an operation on one layer's output.

    Parameters
    ----------
    name, kind : str
        The operation, see `fadiag.capture.tracing.op_kinds`.
    nodes : sequence of Node
        The operation's inputs that were made from the output, in the order of its arguments.
    leads : bool
        Whether the first node is the operation's first argument.
    others : sequence of Tensor
        The operation's other inputs.
    whole : bool
        Whether the operation returned a single tensor with as many values as the first node.

    Returns
    -------
    kind : str or None
        The kind of the operation here; None if the result does not depend on the values of the output.
    name : str
    node : Node
        The parent of the result.
    """
    node = next((n for n in nodes if n.stage != "derived"), nodes[0])
    if kind == "end" or node.stage == "derived":
        return kind, name, node
    if len(nodes) > 1 and kind != "part":
        gate = next((n for n in nodes if n.name == "sigmoid" and n.kind == "gate"), None)
        if len(nodes) == 2 and gate is not None and gate.parent in nodes and name in _PRODUCTS:
            assert gate.parent is not None
            gate.parent.uses.remove(gate)
            return "gate", "silu", gate.parent
        return "unclear", name, node
    # The tensor that is written to may already hold other values, and the layer's own would be overwritten.
    if name == "__setitem__" and leads and node.stage != "shared" and node.name != name:
        return "unclear", name, node
    if kind == "part":
        return ("pass" if whole and len(nodes) == 1 else "part"), name, node
    if name in {"max", "min"} and others:
        return "gate", name, node
    if kind == "pass":
        return ("pass" if leads else None), name, node
    if not leads and (kind in {"norm", "softmax"} or name in _DIVISIONS):
        return "unclear", name, node
    if kind == "norm" and node.stage != "own":
        return "end", name, node
    if kind == "join":
        if all(other.numel() == 1 or isinstance(other, nn.Parameter) for other in others):
            return "scale", name, node
        # A shared tensor with other uses that is then added to is a residual stream. A gate on the sum
        # belongs to no single layer.
        if node.stage == "gated" or (node.stage == "shared" and node.uses):
            return "end", name, node
    return kind, name, node


@dataclass(frozen=True)
class ActivationPath:
    """A layer's own norm and gate, with the node before the gate (z) and the node after it (h).

    Without a gate, z and h are the same node. If the gate is unknown, both are None, and ``through`` names
    the operations after the output.
    """

    norm: str = ""
    gate: str = ""
    z: Node | None = None
    h: Node | None = None
    through: tuple[str, ...] = ()


#: The final use of a tensor. ``read``: read unchanged. ``gate``, ``gate of a part``: passed to a gate, whole
#: or in part. ``unclear``: unknown.
_End = Literal["read", "gate", "gate of a part", "unclear"]


def activation_path(output: Node) -> ActivationPath:
    """Return the layer's own norm and gate.

    A gate is the layer's own if every use of the output goes through it. If a residual stream or another
    layer also reads the output unchanged, then h is the output itself, even if other uses go through a gate.
    """
    ends = list(_ends(output))
    if any(end == "read" for end, _ in ends):
        base = _base(output)
        return ActivationPath(norm=base.name if base.kind == "norm" else "", z=base, h=base)
    if len(ends) == 1 and ends[0][0] == "gate":
        gate = ends[0][1]
        after = list(_ends(gate))
        if any(end == "read" for end, _ in after):
            norm = next((node.name for node in _ancestors(gate) if node.kind == "norm"), "")
            return ActivationPath(norm=norm, gate=gate.name, z=gate.parent, h=gate)
        ends += after
    return ActivationPath(gate="unknown", through=tuple(dict.fromkeys(node.name for _, node in ends)))


def _ends(node: Node) -> Iterator[tuple[_End, Node]]:
    """Yield the final uses of a tensor, each with its node."""
    if not node.uses_in_loss:
        yield "read", node  # by the loss, or by the caller of the model
    for use in node.uses_in_loss:
        match use.kind:
            case "gate":
                yield "gate", use
            case "unclear":
                yield "unclear", use
            case "end":
                yield "read", use
            case "join":
                # The sum is z if only gates use it. Otherwise the sum is a residual stream.
                ends = list(_ends(use))
                gates = all(end in {"gate", "gate of a part"} for end, _ in ends)
                if gates:
                    yield from ends
                else:
                    yield "read", use
            case "part":
                yield from (("gate of a part", at) if end == "gate" else (end, at) for end, at in _ends(use))
            case "softmax":
                hidden = any(at.kind == "end" and not is_loss(at.name) for _, at in _ends(use))
                yield ("unclear" if hidden else "read"), use
            case _:
                yield from _ends(use)


def _base(output: Node) -> Node:
    """Return the last norm that every use of an output goes through, or the output."""
    base = node = output
    while len(node.uses_in_loss) == 1 and node.uses_in_loss[0].stage == "own":
        node = node.uses_in_loss[0]
        if node.kind == "norm":
            base = node
    return base


def _ancestors(node: Node) -> Iterator[Node]:
    while node.parent is not None:
        node = node.parent
        yield node
