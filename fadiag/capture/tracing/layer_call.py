"""Call holds the signals of one call of one layer in a pass."""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.dataflow import ActivationPath, Node, activation_path
from fadiag.capture.warn import warn_user
from fadiag.signals import SIGNALS

__all__ = ["REPLACED", "Call"]

#: Why a layer has no modulator and no gate null, although its gate is known.
REPLACED = (
    "a backward hook or function between the layer and its gate's output replaces the gradient, so the "
    "credit before the gate is not seen"
)


@dataclass
class Call:
    """One call of one layer.

    Attributes
    ----------
    layer : RecordedLayer
    index : int
        0 for the first call of the layer in the pass.
    order : int
        The call's place among the calls of all layers.
    output : Node
        The node of the tensor that the layer returned.
    norm, gate : str
        The layer's own norm and gate; "" if it has none, and "unknown" if the gate is unknown.
    got_gradient : bool
        Whether a backward pass went through the output.
    moved : bool
        Whether axes were moved between the output and h.
    a_edge, h_edge : torch.autograd.graph.GradientEdge, optional
        The places of the output and of h in autograd's graph, if they are saved.
    h_shape : torch.Size
    is_replaced : bool
        Whether a hook or function of the user's replaces the gradient between h and the layer's output.
    values : dict of str to Tensor
        The signals by name, after `finish`.
    """

    layer: RecordedLayer
    index: int
    order: int
    output: Node
    norm: str = ""
    gate: str = ""
    got_gradient: bool = False
    moved: bool = False
    a_edge: GradientEdge | None = None
    h_edge: GradientEdge | None = None
    h_shape: torch.Size = field(default_factory=torch.Size)
    is_replaced: bool = False
    values: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layer's name; the second call of a layer in one pass is ``name@1``, and so on."""
        return f"{self.layer.name}@{self.index}" if self.index else self.layer.name

    @property
    def a_shape(self) -> torch.Size:
        """The shape of the layer's output."""
        return self.output.shape

    def finish(self, wanted: Collection[str]) -> None:
        """Find z and h after the backward pass, and read the wanted signals there."""
        output, path = self.output, activation_path(self.output)
        self.got_gradient = output.hooked and output.got_gradient
        self.norm, self.gate, self.a_edge = path.norm, path.gate, output.edge
        found = {"error": output.gradient}
        if path.z is not None and path.h is not None:
            z, h = path.z, path.h
            self.h_edge, self.h_shape, self.moved = h.edge, h.shape, h.moved
            self.is_replaced = h.replaces_gradient(output)
            found |= {"activation": h.activation}
            if not self.is_replaced:
                found |= {"modulator": h.gradient, "error_post": z.gradient}
        elif any(SIGNALS[signal].needs_gate for signal in wanted):
            _warn_unknown_gate(self, path)
        for signal, value in found.items():
            if signal in wanted and value is not None:
                # Two signals at one node share a tensor, and the caller may write to each of them.
                is_new = all(value is not other for other in self.values.values())
                self.values[signal] = value if is_new else value.clone()
        output.release()


def _warn_unknown_gate(call: Call, path: ActivationPath) -> None:
    warn_user(
        f"layer {call.name!r}: its output goes through {' and '.join(map(repr, path.through))}, and it is "
        "not known which gate that is; its activation, modulator and error_post are not recorded, its error "
        "and gradient are; say by Recorder(passes=..., gates=...) which function or module merely passes its "
        "input on and which is the gate, use the gate's own function (torch.nn.functional.silu, say, and not "
        "its formula), or leave these signals out by signals=[...]",
    )
