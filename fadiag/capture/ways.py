"""The ways that a layer's output takes to what reads it, and which norm and gate on them are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from fadiag.capture.operations import MOVES, Kind, is_loss

__all__ = ["Follow", "Point", "follow_of", "step"]

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
class Point:
    """A tensor on a way: the operation that made it, those that took it, and what was seen at it.

    ``heard`` tells whether a gradient came by: what only a metric takes is no way. ``kept`` tells whether
    that gradient is wanted; ``edge``, where it is kept, is its place in the graph.
    """

    kind: Kind | Literal["output"]
    name: str
    stage: _Stage
    shape: torch.Size
    before: "Point | None" = None
    uses: list["Point"] = field(default_factory=list)
    listening: bool = False
    kept: bool = False
    heard: bool = False
    activation: Tensor | None = None
    gradient: Tensor | None = None
    edge: GradientEdge | None = None

    def then(self, kind: Kind, name: str, shape: torch.Size) -> "Point":
        """Return the point that an operation leads to from here."""
        stage = _STAGES.get(kind, self.stage)
        if self.stage == "gated" and kind == "part":
            stage = "gated"
        return Point(kind, name, stage, shape, self)

    def release(self) -> None:
        """Let go of what was kept here and on all ways from here.

        Points hold those before and behind them: without this, what they kept would stay in memory until the
        garbage collector comes by.
        """
        on_way = [self]
        while on_way:
            point = on_way.pop()
            on_way += point.uses
            point.uses, point.activation, point.gradient = [], None, None

    @property
    def moved(self) -> bool:
        """Whether axes were put elsewhere on the way to it."""
        return any(point.name in MOVES for point in (self, *_back(self)))

    @property
    def taken(self) -> list["Point"]:
        """What was made of it and had a part in the loss."""
        return [use for use in self.uses if use.had_part]

    @property
    def had_part(self) -> bool:
        """Whether it had a part in the loss, or what was made of it (a view changed in place hears none)."""
        return self.heard or any(use.had_part for use in self.uses)


def step(
    name: str, kind: Kind, points: Sequence[Point], *, leads: bool, others: Sequence[Tensor], whole: bool
) -> tuple[Kind | None, str, Point]:
    """Return what an operation is to the ways of one output: its kind and name, and where it goes on from.

    Parameters
    ----------
    name, kind : str
        As `fadiag.capture.operations` has them.
    points : sequence of Point
        On the ways of one output, in the order that the operation took them.
    leads : bool
        Whether the first of them was the operation's first argument.
    others : sequence of Tensor
        What it took beside them.
    whole : bool
        Whether it made one tensor, of as many values.

    Returns
    -------
    kind, name, point
        The kind is None where the values of the output have no part in the result.
    """
    point = next((p for p in points if p.stage != "derived"), points[0])
    if kind == "end" or point.stage == "derived":
        return kind, name, point
    if len(points) > 1 and kind != "part":
        gate = next((p for p in points if p.name == "sigmoid" and p.kind == "gate"), None)
        if len(points) == 2 and gate is not None and gate.before in points and name in _PRODUCTS:
            assert gate.before is not None
            gate.before.uses.remove(gate)
            return "gate", "silu", gate.before
        return "unclear", name, point
    # What it was written into takes others beside it; what it is itself would be overwritten.
    if name == "__setitem__" and leads and point.stage != "shared" and point.name != name:
        return "unclear", name, point
    if kind == "part":
        return ("pass" if whole and len(points) == 1 else "part"), name, point
    if name in {"max", "min"} and others:
        return "gate", name, point
    if kind == "pass":
        return ("pass" if leads else None), name, point
    if not leads and (kind in {"norm", "softmax"} or name in _DIVISIONS):
        return "unclear", name, point
    if kind == "norm" and point.stage != "own":
        return "end", name, point
    if kind == "join":
        if all(other.numel() == 1 or isinstance(other, nn.Parameter) for other in others):
            return "scale", name, point
        # What is taken otherwise too, and then added to, is a stream: no gate on it is one layer's own.
        if point.stage == "gated" or (point.stage == "shared" and point.uses):
            return "end", name, point
    return kind, name, point


@dataclass(frozen=True)
class Follow:
    """What follows a layer's output and is its own: ``z`` enters the gate, ``h`` leaves it.

    Without a gate z and h are one. Where the gate is not known both are None, and ``through`` names the
    operations between.
    """

    norm: str = ""
    gate: str = ""
    z: Point | None = None
    h: Point | None = None
    through: tuple[str, ...] = ()


#: Where a way ends: read as it is, at a gate, at a gate of a part of it, or at what is not known.
_End = Literal["read", "gate", "gate of a part", "unclear"]


def follow_of(output: Point) -> Follow:
    """Return what follows a layer's output and is its own.

    A gate is, where it is the only way that the output takes. Where it is read as it is on any (a residual
    stream, another layer), h is the output itself, whatever is on the others.
    """
    ends = list(_ends(output))
    if any(end == "read" for end, _ in ends):
        base = _base(output)
        return Follow(norm=base.name if base.kind == "norm" else "", z=base, h=base)
    if len(ends) == 1 and ends[0][0] == "gate":
        gate = ends[0][1]
        beyond = list(_ends(gate))
        if any(end == "read" for end, _ in beyond):
            norm = next((p.name for p in _back(gate) if p.kind == "norm"), "")
            return Follow(norm=norm, gate=gate.name, z=gate.before, h=gate)
        ends += beyond
    return Follow(gate="unknown", through=tuple(dict.fromkeys(point.name for _, point in ends)))


def _ends(point: Point) -> Iterator[tuple[_End, Point]]:
    if not point.taken:
        yield "read", point  # by the loss, or by whoever got it from the model
    for use in point.taken:
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


def _base(output: Point) -> Point:
    """Return the last norm that all of an output goes through, or the output."""
    base = point = output
    while len(point.taken) == 1 and point.taken[0].stage == "own":
        point = point.taken[0]
        if point.kind == "norm":
            base = point
    return base


def _back(point: Point) -> Iterator[Point]:
    while point.before is not None:
        point = point.before
        yield point
