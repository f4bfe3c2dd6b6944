"""Following a layer's output to its norm and its gate.

For each call of a recorded layer: ``a`` is what the module returned, ``z`` what enters the gate, ``h`` what
leaves it. Tensors are known by identity, so functions, methods and modules, in place or not, are seen alike;
what is not seen, by its node in the graph.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from fadiag.capture.call import Call
from fadiag.capture.hooks import Hook
from fadiag.capture.layers import RecordedLayer
from fadiag.capture.listening import Listener, Purpose
from fadiag.capture.operations import Kind, kind_of, name_of, only_asks, unseen
from fadiag.capture.ways import Point, step
from fadiag.errors import CaptureError

__all__ = ["Trace", "hang", "tracing"]

#: The calls that a tensor came from, each with the point that it is on its ways.
_Points = Sequence[tuple[Call, Point]]


@dataclass(frozen=True)
class _Followed:
    """A tensor that is followed, held weakly: its id may come again."""

    tensor: ref[Tensor]
    node: Any
    points: _Points


class Trace(TorchFunctionMode):
    """The calls of the recorded layers in one forward pass. Use `tracing`."""

    def __init__(self, signals: Collection[str], *, keep_edges: bool = False) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.count = 0  # calls of all layers, recorded or not
        self.last: RecordedLayer | None = None
        self._wanted = frozenset(signals)
        self._listener = Listener(signals, keep_edges=keep_edges)
        self._with_grad = torch.is_grad_enabled()
        self._ungraded: RecordedLayer | None = None  # one that ran under no_grad
        self._depth = 0  # of the model's own calls: a model may call itself
        # By a tensor's id, and by its place in the graph.
        self._followed: dict[int, _Followed] = {}
        self._nodes: dict[tuple[Any, int], _Followed] = {}

    def enter(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Begin to follow what a layer returned."""
        if not isinstance(output, Tensor):
            raise CaptureError(
                f"layer {layer.name!r} returns a {type(output).__name__}; only a tensor can be recorded"
            )
        if torch.is_grad_enabled() != self._with_grad:
            self._ungraded = layer
            self.pass_by(layer, inputs, output)
            return
        compiling = torch.compiler.is_compiling()  # which cannot look inside the next call
        if not compiling and torch._C._functorch.is_functorch_wrapped_tensor(output):
            raise CaptureError(
                f"layer {layer.name!r} is called inside a transformation of torch.func (vmap, grad, jacrev), "
                "where its signals cannot be seen; call it on the whole batch outside, or leave it out by "
                "layers=[...]"
            )
        index = sum(call.layer is layer for call in self.calls)
        with torch._C.DisableTorchFunction():
            call = Call(layer, index, self.count, Point("output", layer.name, "own", output.shape))
            self.pass_by(layer, inputs, output)
            # What an embedding takes are places in its table, no values.
            taken = inputs[0] if inputs else None
            if "input" in self._wanted and isinstance(taken, Tensor) and taken.is_floating_point():
                call.values["input"] = taken.detach().clone()
            self.calls.append(call)
            self._listener.reach(output, call.output)
            self._follow(output, [(call, call.output)])

    def pass_by(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Count a call: the order of layers is that of all, recorded or not."""
        self.count += 1
        self.last = layer
        with torch._C.DisableTorchFunction():
            # A layer reads its input, by whatever function: that of a feedback layer is not seen.
            for tensor in _tensors(inputs):
                points = self._points(tensor)
                self._listener.restore(tensor, (point for _, point in points))
                for _, point in points:
                    point.uses.append(Point("end", layer.name, point.stage, tensor.shape, point, heard=True))
            for tensor in _tensors(output):
                self._follow(tensor, ())

    def begin(self) -> None:
        """Tell that the model is called, by the user or by itself."""
        self._depth += 1

    def end(self, output: Any) -> bool:
        """Tell what a call of the model returned; return whether that was the user's own call.

        What comes then is the loss: a gate in it is no layer's.
        """
        self._depth -= 1
        if self._depth == 0:
            with torch._C.DisableTorchFunction():
                for tensor in _tensors(output):
                    for _, point in self._points(tensor):
                        point.uses.append(replace(point.then("pass", "return", tensor.shape), heard=True))
                    self._follow(tensor, ())
                if self._ungraded is not None and any(map(_has_reentrant_checkpoint, _tensors(output))):
                    raise CaptureError(
                        f"layer {self._ungraded.name!r} ran without autograd inside a pass with it, so its "
                        "error cannot be seen; checkpoint with use_reentrant=False, or leave the layer out "
                        "by layers=[...]"
                    )
        return self._depth == 0

    def stop(self) -> None:
        """Remove all listeners and let go of the tensors."""
        self._listener.stop()
        self.forget_tensors()

    @property
    def purpose(self) -> Purpose:
        """What the backward passes that were heard were for."""
        return self._listener.purpose

    def note_weights(self) -> None:
        """Note which weights the layers have, before the pass ends: it may stand in others (functional_call).

        Not while the trace runs, which would see all that this takes, and slow it down.
        """
        weights = {id(w): w for call in self.calls if (w := call.layer.weight).requires_grad}
        self._listener.note_weights([get_gradient_edge(weight) for weight in weights.values()])

    def forget_tensors(self) -> None:
        """Let go of the tensors that were followed, at the end of the forward pass."""
        self._followed.clear()
        self._nodes.clear()

    def forget_heard(self) -> None:
        """Forget what was heard so far: a backward pass made inside the loss."""
        self._listener.forget_heard()

    def finish(self) -> None:
        """After the backward pass: choose z and h of each call, and keep what was seen there."""
        for call in self.calls:
            call.finish(self._wanted)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See an operation, follow what it makes of a followed tensor."""
        kwargs = kwargs or {}
        if not self._followed or only_asks(func):
            return func(*args, **kwargs)
        given = list(_tensors((*args, *kwargs.values())))
        taken = [(tensor, points) for tensor in given if (points := self._points(tensor))]
        name = name_of(func)
        if not taken or name.endswith("_like") or name.startswith("new_"):
            return func(*args, **kwargs)
        kind = kind_of(name)
        first = args[0] if args else next(iter(kwargs.values()))
        # Before the operation, which may be in place.
        for tensor, points in taken:
            if kind != "unclear":
                self._listener.restore(tensor, (point for _, point in points))
            if kind == "gate":
                for _, point in points:
                    self._listener.listen(tensor, point, "error_post")
        needed = any(tensor.requires_grad for tensor, _ in taken)
        views = [(tensor, tensor._version, points) for tensor, points in taken if tensor._is_view()]
        result = func(*args, **kwargs)
        made = list(_tensors(first if name == "__setitem__" else result))
        for view, version, points in views:
            if view._version != version:
                self._listener.listen_behind(view, [point for _, point in points])
        if made and not (kind == "pass" and made[0] is first):
            self._see((name, kind), first, given, taken, made, needed=needed, graded=torch.is_grad_enabled())
        return result

    def _see(
        self,
        operation: tuple[str, Kind],
        first: Any,
        given: Sequence[Tensor],
        taken: Sequence[tuple[Tensor | None, _Points]],
        made: Sequence[Tensor],
        *,
        needed: bool,
        graded: bool,
    ) -> None:
        """Put what an operation made on the ways of what it took."""
        groups: dict[str, tuple[Call, list[Point], list[Tensor | None]]] = {}
        for tensor, points in taken:
            for call, point in points:
                group = groups.setdefault(call.name, (call, [], []))
                group[1].append(point)
                group[2].append(tensor)
        followed: list[list[tuple[Call, Point]]] = [[] for _ in made]
        for call, on_way, sources in groups.values():
            others = [tensor for tensor in given if all(tensor is not source for source in sources)]
            leads = sources[0] is first
            whole = len(made) == 1 and made[0].shape.numel() == on_way[0].shape.numel()
            does, called, point = step(*operation, on_way, leads=leads, others=others, whole=whole)
            parents = {id(p): p for p in on_way if p.stage != "derived"}
            for tensor, on in zip(made, followed, strict=True):
                # What has no gradient (a mask, a metric) is no way, but made of the output all the same.
                is_way = graded and (tensor.requires_grad or (not needed and tensor.is_floating_point()))
                if does is None or not parents:
                    new = point
                else:
                    new = point.then(does if is_way else "unclear", called, tensor.shape)
                    if is_way:
                        for parent in parents.values():
                            parent.uses.append(new)
                        self._listener.reach(tensor, new)
                if does not in {None, "end"}:
                    on.append((call, new))
        for tensor, on in zip(made, followed, strict=True):
            # What an autograd function does in place is seen when it is done.
            if graded or all(tensor is not source for source, _ in taken):
                self._follow(tensor, on)

    def _follow(self, tensor: Tensor, points: _Points) -> None:
        node: Any = tensor.grad_fn
        followed = self._followed[id(tensor)] = _Followed(ref(tensor), node, points)
        if points and node is not None:
            self._nodes[node, tensor.output_nr] = followed

    def _points(self, tensor: Tensor) -> _Points:
        """Return on which ways a tensor is; one not seen before may still be, by its node in the graph."""
        node: Any = tensor.grad_fn
        followed = self._followed.get(id(tensor))
        known = followed.points if followed is not None and followed.tensor() is tensor else ()
        # An autograd function gives what it made another node when it is done.
        if followed is not None and followed.tensor() is tensor and followed.node is node:
            return known
        if node is None or not any(edge in self._nodes for edge in node.next_functions):
            return known
        name, kind = unseen(node)
        edges = node.next_functions
        if name == "backward_hook_function":
            edges = edges[tensor.output_nr : tensor.output_nr + 1]
        taken: list[tuple[Tensor | None, _Points]] = []
        for found in (self._nodes[edge] for edge in edges if edge in self._nodes):
            source, points = found.tensor(), found.points
            if source is not None and self._followed[id(source)] is not found:
                source = None  # changed in place since
            if kind == "gate":
                for _, point in points:
                    if source is not None:
                        self._listener.listen(source, point, "error_post")
                    elif "error_post" in self._wanted and not point.kept:
                        kind = "unclear"
            taken.append((source, points))
        self._see((name, kind), taken[0][0], (), taken, [tensor], needed=True, graded=True)
        return self._followed[id(tensor)].points


def _has_reentrant_checkpoint(output: Tensor) -> bool:
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("CheckpointFunctionBackward"):
            return True
        seen.add(node)
        nodes += [before for before, _ in node.next_functions]
    return False


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list)):
        for item in given:
            yield from _tensors(item)
    elif isinstance(given, Mapping):
        yield from _tensors(list(given.values()))


def hang(
    layers: Sequence[RecordedLayer], others: Sequence[RecordedLayer], running: Callable[[], Trace | None]
) -> list[RemovableHandle]:
    """Hang hooks on layers that tell the trace which runs then, if any, of each call; others are counted."""

    def enter(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.enter(layer, inputs, output)

    def pass_by(layer: RecordedLayer, module: nn.Module, inputs: Any, output: Any) -> None:
        if (trace := running()) is not None:
            trace.pass_by(layer, inputs, output)

    told = [*((layer, enter) for layer in layers), *((layer, pass_by) for layer in others)]
    return [layer.module.register_forward_hook(Hook(partial(hook, layer))) for layer, hook in told]


@contextmanager
def tracing(
    model: nn.Module,
    layers: Sequence[RecordedLayer],
    signals: Collection[str],
    *,
    others: Sequence[RecordedLayer] = (),
    keep_edges: bool = False,
) -> Iterator[Trace]:
    """Follow the recorded layers of a model through the forward pass made inside; the others are counted."""
    trace = Trace(signals, keep_edges=keep_edges)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        trace.end(output)

    handles = hang(layers, others, lambda: trace)
    handles.append(model.register_forward_pre_hook(lambda module, inputs: trace.begin()))
    handles.append(model.register_forward_hook(end))
    try:
        with trace:
            yield trace
    finally:
        trace.forget_tensors()
        for handle in handles:
            handle.remove()
