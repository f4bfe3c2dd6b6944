"""Following a layer's output to its norm and its gate, and listening to the backward pass there.

For each call of a recorded layer: ``a`` is what the module returned, ``z`` what enters the gate, ``h`` what
leaves it. Tensors are known by identity, so functions, methods and modules, in place or not, are seen alike.
Every listener is a tensor hook: after an in-place gate nothing else sees dL/da.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from fadiag.capture.layers import RecordedLayer
from fadiag.errors import CaptureError

__all__ = ["Call", "Trace", "hang", "tracing"]

# The names of torch's functions, without the underscore of the in-place ones.
_GATES = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid softplus softsign hardtanh hardswish "
    "hardsigmoid hardshrink softshrink tanhshrink threshold logsigmoid rrelu prelu"
)
_NORMS = "batch_norm layer_norm group_norm instance_norm rms_norm"
_ADDS = "add __add__ __radd__ __iadd__"
_PASSES = (
    "reshape view flatten unflatten permute transpose contiguous squeeze unsqueeze dropout alpha_dropout "
    "feature_alpha_dropout dropout1d dropout2d dropout3d max_pool1d max_pool2d _max_pool1d _max_pool2d "
    "max_pool2d_with_indices avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d"
)
_KINDS = {
    name: kind
    for kind, names in (("gate", _GATES), ("norm", _NORMS), ("add", _ADDS), ("pass", _PASSES))
    for name in names.split()
}
#: What a layer without a gate has alike: dL/dz.
_UNGATED = frozenset({"modulator", "error_post"})


@dataclass
class Call:
    """One call of one layer: what was seen of it.

    ``values`` holds what was asked for; ``heard`` tells whether a backward pass came by.
    ``a_edge`` and ``h_edge``, where they are kept, are the places in the graph between which the Jacobian of
    gate and norm stands.
    """

    layer: RecordedLayer
    index: int
    a_edge: GradientEdge | None
    h_edge: GradientEdge | None
    a_shape: torch.Size
    h_shape: torch.Size
    norm: str = ""
    gate: str = ""
    order: int = 0
    heard: bool = False
    values: dict[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layer's name; the second call of a layer in one pass is ``name@1``, and so on."""
        return f"{self.layer.name}@{self.index}" if self.index else self.layer.name


class Trace(TorchFunctionMode):
    """The calls of the recorded layers in one forward pass. Use `tracing`."""

    def __init__(self, signals: Collection[str], *, keep_edges: bool = False) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.count = 0  # calls of all layers, recorded or not
        self.last: RecordedLayer | None = None
        self._wanted = frozenset(signals)
        self._keep_edges = keep_edges
        self._with_grad = torch.is_grad_enabled()
        self._handles: list[Any] = []
        # A tensor's id -> (the tensor, kept so that the id stays its own; its calls with their stage).
        self._followed: dict[int, tuple[Tensor, list[tuple[Call, str]]]] = {}

    def enter(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Begin to follow what a layer returned."""
        if not isinstance(output, Tensor):
            raise CaptureError(
                f"layer {layer.name!r} returns a {type(output).__name__}; only a tensor can be recorded"
            )
        if torch.is_grad_enabled() != self._with_grad:
            raise CaptureError(
                f"layer {layer.name!r} ran without autograd inside a pass with it, so its error "
                "cannot be seen; checkpoint with use_reentrant=False, or leave the layer out by layers=[...]"
            )
        edge = self._edge_of(output)
        index = sum(call.layer is layer for call in self.calls)
        call = Call(layer, index, edge, edge, output.shape, output.shape, order=self.count)
        self.pass_by(layer)
        # What an embedding takes are places in its table, no values.
        taken = inputs[0] if inputs else None
        if "input" in self._wanted and isinstance(taken, Tensor) and taken.is_floating_point():
            call.values["input"] = taken.detach().clone()
        self.calls.append(call)
        self._listen(output, call, "error")
        self._reach(output, call)
        self._follow(output, call, "plain")

    def pass_by(self, layer: RecordedLayer) -> None:
        """Count a call: the order of layers is that of all, recorded or not."""
        self.count += 1
        self.last = layer

    def stop(self) -> None:
        """Remove all listeners and let go of the tensors."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._followed.clear()

    def forget_tensors(self) -> None:
        """Let go of the tensors that were followed, at the end of the forward pass."""
        self._followed.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See an operation, follow what it makes of a followed tensor."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain = name if name.startswith("__") else name.rstrip("_")
        kind = _KINDS.get(plain, "")
        if not kind or not self._followed:
            return func(*args, **kwargs)
        taken: list[tuple[Tensor, list[tuple[Call, str]]]] = []
        for given in (*args[: 2 if kind == "add" else 1], *kwargs.values()):
            found = self._followed.get(id(given))
            if found is not None and all(found is not other for other in taken):
                taken.append(found)
        if kind == "gate":
            for z, reached in taken:
                for call, _ in reached:
                    self._listen(z, call, "error_post")
        # In-place operations change the tensor; its shape, for "add", is what the sum must keep.
        shapes = [z.shape for z, _ in taken]
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            for z, _ in taken:
                if z is result or kind in {"gate", "norm"}:
                    self._followed.pop(id(z), None)
            for (_, reached), shape in zip(taken, shapes, strict=True):
                for call, stage in reached:
                    if kind != "add" or result.shape == shape:
                        self._advance(kind, plain, result, (call, stage))
        return result

    def _advance(self, kind: str, name: str, result: Tensor, reached: tuple[Call, str]) -> None:
        call, stage = reached
        if kind == "gate":
            call.gate = name
            # error_post was heard at z already; only what leaves the gate is new.
            self._listen(result, call, "modulator")
            self._settle(result, call)
        elif kind == "norm" and stage == "plain":
            call.norm = name
            self._reach(result, call)
            self._follow(result, call, "normed")
        elif kind == "add" and stage != "added":
            # A sum is z only where a gate follows: so nothing is settled here.
            self._follow(result, call, "added")
        elif kind == "pass":
            self._follow(result, call, stage)

    def _reach(self, z: Tensor, call: Call) -> None:
        """Take z for the layer's output too, until a gate is found."""
        self._listen(z, call, "ungated")
        self._settle(z, call)

    def _settle(self, h: Tensor, call: Call) -> None:
        if "activation" in self._wanted:
            held = call.values.get("activation")
            if held is not None and (held.shape, held.dtype, held.device) == (h.shape, h.dtype, h.device):
                held.copy_(h.detach())  # fresh memory, at the norm and at the gate again, costs more
            else:
                call.values["activation"] = h.detach().clone()
        call.h_edge = self._edge_of(h)
        call.h_shape = h.shape

    def _edge_of(self, tensor: Tensor) -> GradientEdge | None:
        return get_gradient_edge(tensor) if self._keep_edges and tensor.requires_grad else None

    def _follow(self, tensor: Tensor, call: Call, stage: str) -> None:
        self._followed.setdefault(id(tensor), (tensor, []))[1].append((call, stage))

    def _listen(self, tensor: Tensor, call: Call, signal: str) -> None:
        kept = signal in self._wanted or (signal == "ungated" and bool(_UNGATED & self._wanted))
        if not tensor.requires_grad or not (kept or signal == "error"):
            return
        shape, values = tensor.shape, call.values

        def hear(gradient: Tensor) -> None:
            call.heard = True
            # The norm's output is heard first (backward runs down), and is nearer to the gate than a.
            if kept and (signal != "ungated" or not (call.gate or "ungated" in values)):
                values[signal] = gradient.detach().reshape(shape).clone()

        self._handles.append(tensor.register_hook(hear))  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """After the backward pass: a layer without a gate has modulator = error_post = dL/dz."""
        for call in self.calls:
            ungated = call.values.pop("ungated", None)
            if not call.gate and ungated is not None:
                for signal in _UNGATED & self._wanted:
                    call.values[signal] = ungated.clone()


def hang(
    layers: Sequence[RecordedLayer], others: Sequence[RecordedLayer], running: Callable[[], Trace | None]
) -> list[RemovableHandle]:
    """Hang hooks on layers that tell the trace which runs then, if any, of each call; others are counted."""

    def enter(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.enter(layer, inputs, output)

    def pass_by(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.pass_by(layer)

    told = [*((layer, enter) for layer in layers), *((layer, pass_by) for layer in others)]
    return [layer.module.register_forward_hook(partial(hook, layer)) for layer, hook in told]


@contextmanager
def tracing(
    layers: Sequence[RecordedLayer],
    signals: Collection[str],
    *,
    others: Sequence[RecordedLayer] = (),
    keep_edges: bool = False,
) -> Iterator[Trace]:
    """Follow the recorded layers through the forward pass made inside; the others are counted."""
    trace = Trace(signals, keep_edges=keep_edges)

    handles = hang(layers, others, lambda: trace)
    try:
        with trace:
            yield trace
    finally:
        trace.forget_tensors()
        for handle in handles:
            handle.remove()
