"""The ways that a layer's output takes to what reads it, and which norm and gate on them are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from fadiag.capture.tracing.op_kinds import MOVES, Kind, is_loss

__all__ = ["ActivationPath", "Node", "activation_path", "advance"]

#: Of a tensor: the layer's own output (at most normed, scaled, moved), one that others have a part in, what
#: left a gate, or what was made of one in a way that is not known.
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


@dataclass(eq=False)
class Node:
    """A tensor on a way: the operation that made it, those that took it, and what was seen at it.

    ``reached`` tells whether a gradient came by: what only a metric takes is no way. ``kept`` tells whether
    that gradient is wanted; ``edge``, where it is kept, is its place in the graph.
    """

    kind: Kind | Literal["output"]
    name: str
    stage: _Stage
    shape: torch.Size
    before: "Node | None" = None
    uses: list["Node"] = field(default_factory=list)
    hooked: bool = False
    keeps_gradient: bool = False
    reached: bool = False
    activation: Tensor | None = None
    gradient: Tensor | None = None
    edge: GradientEdge | None = None

    def then(self, kind: Kind, name: str, shape: torch.Size) -> "Node":
        """Return the node that an operation leads to from here."""
        stage = _STAGES.get(kind, self.stage)
        if self.stage == "gated" and kind == "part":
            stage = "gated"
        return Node(kind, name, stage, shape, self)

    def release(self) -> None:
        """Let go of what was kept here and on all ways from here.

        Points hold those before and behind them: without this, what they kept would stay in memory until the
        garbage collector comes by.
        """
        on_way = [self]
        while on_way:
            node = on_way.pop()
            on_way += node.uses
            node.uses, node.activation, node.gradient = [], None, None

    @property
    def moved(self) -> bool:
        """Whether axes were put elsewhere on the way to it."""
        return any(node.name in MOVES for node in (self, *_back(self)))

    @property
    def uses_in_loss(self) -> list["Node"]:
        """What was made of it and had a part in the loss."""
        return [use for use in self.uses if use.in_loss]

    @property
    def in_loss(self) -> bool:
        """Whether it had a part in the loss, or what was made of it (a view changed in place hears none)."""
        return self.reached or any(use.in_loss for use in self.uses)


def advance(
    name: str, kind: Kind, nodes: Sequence[Node], *, leads: bool, others: Sequence[Tensor], whole: bool
) -> tuple[Kind | None, str, Node]:
    """Return what an operation is to the ways of one output: its kind and name, and where it goes on from.

    Parameters
    ----------
    name, kind : str
        As `fadiag.capture.tracing.op_kinds` has them.
    nodes : sequence of Node
        On the ways of one output, in the order that the operation took them.
    leads : bool
        Whether the first of them was the operation's first argument.
    others : sequence of Tensor
        What it took beside them.
    whole : bool
        Whether it made one tensor, of as many values.

    Returns
    -------
    kind, name, node
        The kind is None where the values of the output have no part in the result.
    """
    node = next((p for p in nodes if p.stage != "derived"), nodes[0])
    if kind == "end" or node.stage == "derived":
        return kind, name, node
    if len(nodes) > 1 and kind != "part":
        gate = next((p for p in nodes if p.name == "sigmoid" and p.kind == "gate"), None)
        if len(nodes) == 2 and gate is not None and gate.before in nodes and name in _PRODUCTS:
            assert gate.before is not None
            gate.before.uses.remove(gate)
            return "gate", "silu", gate.before
        return "unclear", name, node
    # What it was written into takes others beside it; what it is itself would be overwritten.
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
        # What is taken otherwise too, and then added to, is a stream: no gate on it is one layer's own.
        if node.stage == "gated" or (node.stage == "shared" and node.uses):
            return "end", name, node
    return kind, name, node


@dataclass(frozen=True)
class ActivationPath:
    """What follows a layer's output and is its own: ``z`` enters the gate, ``h`` leaves it.

    Without a gate z and h are one. Where the gate is not known both are None, and ``through`` names the
    operations between.
    """

    norm: str = ""
    gate: str = ""
    z: Node | None = None
    h: Node | None = None
    through: tuple[str, ...] = ()


#: Where a way ends: read as it is, at a gate, at a gate of a part of it, or at what is not known.
_End = Literal["read", "gate", "gate of a part", "unclear"]


def activation_path(output: Node) -> ActivationPath:
    """Return what follows a layer's output and is its own.

    A gate is, where it is the only way that the output takes. Where it is read as it is on any (a residual
    stream, another layer), h is the output itself, whatever is on the others.
    """
    ends = list(_ends(output))
    if any(end == "read" for end, _ in ends):
        base = _base(output)
        return ActivationPath(norm=base.name if base.kind == "norm" else "", z=base, h=base)
    if len(ends) == 1 and ends[0][0] == "gate":
        gate = ends[0][1]
        beyond = list(_ends(gate))
        if any(end == "read" for end, _ in beyond):
            norm = next((p.name for p in _back(gate) if p.kind == "norm"), "")
            return ActivationPath(norm=norm, gate=gate.name, z=gate.before, h=gate)
        ends += beyond
    return ActivationPath(gate="unknown", through=tuple(dict.fromkeys(node.name for _, node in ends)))


def _ends(node: Node) -> Iterator[tuple[_End, Node]]:
    if not node.uses_in_loss:
        yield "read", node  # by the loss, or by whoever got it from the model
    for use in node.uses_in_loss:
        match use.kind:
            case "gate":
                yield "gate", use
            case "unclear":
                yield "unclear", use
            case "end":
                yield "read", use
            case "join":
                # The whole is z where nothing but a gate takes it; else the layer adds to a stream.
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
    """Return the last norm that all of an output goes through, or the output."""
    base = node = output
    while len(node.uses_in_loss) == 1 and node.uses_in_loss[0].stage == "own":
        node = node.uses_in_loss[0]
        if node.kind == "norm":
            base = node
    return base


def _back(node: Node) -> Iterator[Node]:
    while node.before is not None:
        node = node.before
        yield node
