"""One call of one layer in a pass, and what was seen of it."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.dataflow import ActivationPath, Node, activation_path
from fadiag.errors import CaptureWarning
from fadiag.signals import SIGNALS

__all__ = ["Call"]


@dataclass
class Call:
    """One call of one layer: what was seen of it.

    ``output`` is the node of what the layer returned. When the trace is finished, ``values`` holds the
    signals asked for, and ``reached`` says whether a backward pass came through. ``a_edge`` and ``h_edge``
    are kept on request: the two ends of the layer's gate and norm in autograd's graph.
    """

    layer: RecordedLayer
    index: int
    order: int
    output: Node
    norm: str = ""
    gate: str = ""
    reached: bool = False
    moved: bool = False  # axes were permuted between a and h
    a_edge: GradientEdge | None = None
    h_edge: GradientEdge | None = None
    h_shape: torch.Size = field(default_factory=torch.Size)
    values: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layer's name; the second call of a layer in one pass is ``name@1``, and so on."""
        return f"{self.layer.name}@{self.index}" if self.index else self.layer.name

    @property
    def a_shape(self) -> torch.Size:
        """The shape of what the module returned."""
        return self.output.shape

    def finish(self, wanted: Collection[str]) -> None:
        """After the backward pass: choose z and h, and keep what was seen there."""
        output, follow = self.output, activation_path(self.output)
        self.reached = output.hooked and output.reached
        self.norm, self.gate, self.a_edge = follow.norm, follow.gate, output.edge
        found = {"error": output.gradient}
        if follow.z is not None and follow.h is not None:
            z, h = follow.z, follow.h
            self.h_edge, self.h_shape, self.moved = h.edge, h.shape, h.moved
            found |= {"activation": h.activation, "modulator": h.gradient, "error_post": z.gradient}
        elif any(SIGNALS[signal].needs_gate for signal in wanted):
            _warn(self, follow)
        for signal, value in found.items():
            if signal in wanted and value is not None:
                alone = all(value is not other for other in self.values.values())
                self.values[signal] = value if alone else value.clone()
        output.release()


def _warn(call: Call, follow: ActivationPath) -> None:
    warnings.warn(
        f"layer {call.name!r}: its output goes through {' and '.join(map(repr, follow.through))}, and it is "
        "not known which gate that is; its activation, modulator and error_post are not recorded, its error "
        "and gradient are; use the gate's own function (torch.nn.functional.silu, say, and not its formula), "
        "or leave these signals out by signals=[...]",
        CaptureWarning,
        stacklevel=2,
    )
