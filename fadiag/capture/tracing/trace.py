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

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.dataflow import Node, advance
from fadiag.capture.tracing.grad_hooks import GradientRecorder, Purpose
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.module_hooks import Hook
from fadiag.capture.tracing.op_kinds import Kind, is_metadata_query, kind_of, name_of, op_of_node
from fadiag.errors import CaptureError

__all__ = ["Trace", "hang", "tracing"]

#: The calls that a tensor came from, each with the node that it is on its ways.
_FlowNodes = Sequence[tuple[Call, Node]]


@dataclass(frozen=True)
class _Followed:
    """A tensor that is followed, held weakly: its id may come again."""

    tensor: ref[Tensor]
    grad_fn: Any
    nodes: _FlowNodes


class Trace(TorchFunctionMode):
    """The calls of the recorded layers in one forward pass. Use `tracing`."""

    def __init__(self, signals: Collection[str], *, keep_edges: bool = False) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.count = 0  # calls of all layers, recorded or not
        self.last: RecordedLayer | None = None
        self._wanted = frozenset(signals)
        self._recorder = GradientRecorder(signals, keep_edges=keep_edges)
        self._with_grad = torch.is_grad_enabled()
        self._ungraded: RecordedLayer | None = None  # one that ran under no_grad
        self._depth = 0  # of the model's own calls: a model may call itself
        # By a tensor's id, and by its place in the graph.
        self._followed: dict[int, _Followed] = {}
        self._by_edge: dict[tuple[Any, int], _Followed] = {}

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
            call = Call(layer, index, self.count, Node("output", layer.name, "own", output.shape))
            self.pass_by(layer, inputs, output)
            # What an embedding takes are places in its table, no values.
            taken = inputs[0] if inputs else None
            if "input" in self._wanted and isinstance(taken, Tensor) and taken.is_floating_point():
                call.values["input"] = taken.detach().clone()
            self.calls.append(call)
            self._recorder.on_output(output, call.output)
            self._follow(output, [(call, call.output)])

    def pass_by(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Count a call: the order of layers is that of all, recorded or not."""
        self.count += 1
        self.last = layer
        with torch._C.DisableTorchFunction():
            # A layer reads its input, by whatever function: that of a feedback layer is not seen.
            for tensor in _tensors(inputs):
                nodes = self._nodes_of(tensor)
                self._recorder.resave(tensor, (node for _, node in nodes))
                for _, node in nodes:
                    node.uses.append(Node("end", layer.name, node.stage, tensor.shape, node, reached=True))
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
                    for _, node in self._nodes_of(tensor):
                        node.uses.append(replace(node.then("pass", "return", tensor.shape), reached=True))
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
        self._recorder.stop()
        self.forget_tensors()

    @property
    def purpose(self) -> Purpose:
        """What the backward passes that were heard were for."""
        return self._recorder.purpose

    def note_weights(self) -> None:
        """Note which weights the layers have, before the pass ends: it may stand in others (functional_call).

        Not while the trace runs, which would see all that this takes, and slow it down.
        """
        weights = {id(w): w for call in self.calls if (w := call.layer.weight).requires_grad}
        self._recorder.note_weights([get_gradient_edge(weight) for weight in weights.values()])

    def forget_tensors(self) -> None:
        """Let go of the tensors that were followed, at the end of the forward pass."""
        self._followed.clear()
        self._by_edge.clear()

    def reset_gradients(self) -> None:
        """Forget what was heard so far: a backward pass made inside the loss."""
        self._recorder.reset_gradients()

    def finish(self) -> None:
        """After the backward pass: choose z and h of each call, and keep what was seen there."""
        for call in self.calls:
            call.finish(self._wanted)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See an operation, follow what it makes of a followed tensor."""
        kwargs = kwargs or {}
        if not self._followed or is_metadata_query(func):
            return func(*args, **kwargs)
        given = list(_tensors((*args, *kwargs.values())))
        taken = [(tensor, nodes) for tensor in given if (nodes := self._nodes_of(tensor))]
        name = name_of(func)
        if not taken or name.endswith("_like") or name.startswith("new_"):
            return func(*args, **kwargs)
        kind = kind_of(name)
        first = args[0] if args else next(iter(kwargs.values()))
        # Before the operation, which may be in place.
        for tensor, nodes in taken:
            if kind != "unclear":
                self._recorder.resave(tensor, (node for _, node in nodes))
            if kind == "gate":
                for _, node in nodes:
                    self._recorder.watch(tensor, node, "error_post")
        needed = any(tensor.requires_grad for tensor, _ in taken)
        views = [(tensor, tensor._version, nodes) for tensor, nodes in taken if tensor._is_view()]
        result = func(*args, **kwargs)
        made = list(_tensors(first if name == "__setitem__" else result))
        for view, version, nodes in views:
            if view._version != version:
                self._recorder.watch_view(view, [node for _, node in nodes])
        if made and not (kind == "pass" and made[0] is first):
            self._see((name, kind), first, given, taken, made, needed=needed, graded=torch.is_grad_enabled())
        return result

    def _see(
        self,
        operation: tuple[str, Kind],
        first: Any,
        given: Sequence[Tensor],
        taken: Sequence[tuple[Tensor | None, _FlowNodes]],
        made: Sequence[Tensor],
        *,
        needed: bool,
        graded: bool,
    ) -> None:
        """Put what an operation made on the ways of what it took."""
        groups: dict[str, tuple[Call, list[Node], list[Tensor | None]]] = {}
        for tensor, nodes in taken:
            for call, node in nodes:
                group = groups.setdefault(call.name, (call, [], []))
                group[1].append(node)
                group[2].append(tensor)
        followed: list[list[tuple[Call, Node]]] = [[] for _ in made]
        for call, on_way, sources in groups.values():
            others = [tensor for tensor in given if all(tensor is not source for source in sources)]
            leads = sources[0] is first
            whole = len(made) == 1 and made[0].shape.numel() == on_way[0].shape.numel()
            does, called, node = advance(*operation, on_way, leads=leads, others=others, whole=whole)
            parents = {id(p): p for p in on_way if p.stage != "derived"}
            for tensor, on in zip(made, followed, strict=True):
                # What has no gradient (a mask, a metric) is no way, but made of the output all the same.
                is_way = graded and (tensor.requires_grad or (not needed and tensor.is_floating_point()))
                if does is None or not parents:
                    new = node
                else:
                    new = node.then(does if is_way else "unclear", called, tensor.shape)
                    if is_way:
                        for parent in parents.values():
                            parent.uses.append(new)
                        self._recorder.on_output(tensor, new)
                if does not in {None, "end"}:
                    on.append((call, new))
        for tensor, on in zip(made, followed, strict=True):
            # What an autograd function does in place is seen when it is done.
            if graded or all(tensor is not source for source, _ in taken):
                self._follow(tensor, on)

    def _follow(self, tensor: Tensor, nodes: _FlowNodes) -> None:
        grad_fn: Any = tensor.grad_fn
        followed = self._followed[id(tensor)] = _Followed(ref(tensor), grad_fn, nodes)
        if nodes and grad_fn is not None:
            self._by_edge[grad_fn, tensor.output_nr] = followed

    def _nodes_of(self, tensor: Tensor) -> _FlowNodes:
        """Return on which ways a tensor is; one not seen before may still be, by its node in the graph."""
        grad_fn: Any = tensor.grad_fn
        followed = self._followed.get(id(tensor))
        known = followed.nodes if followed is not None and followed.tensor() is tensor else ()
        # An autograd function gives what it made another node when it is done.
        if followed is not None and followed.tensor() is tensor and followed.grad_fn is grad_fn:
            return known
        if grad_fn is None or not any(edge in self._by_edge for edge in grad_fn.next_functions):
            return known
        name, kind = op_of_node(grad_fn)
        edges = grad_fn.next_functions
        if name == "backward_hook_function":
            edges = edges[tensor.output_nr : tensor.output_nr + 1]
        taken: list[tuple[Tensor | None, _FlowNodes]] = []
        for found in (self._by_edge[edge] for edge in edges if edge in self._by_edge):
            source, nodes = found.tensor(), found.nodes
            if source is not None and self._followed[id(source)] is not found:
                source = None  # changed in place since
            if kind == "gate":
                for _, node in nodes:
                    if source is not None:
                        self._recorder.watch(source, node, "error_post")
                    elif "error_post" in self._wanted and not node.keeps_gradient:
                        kind = "unclear"
            taken.append((source, nodes))
        self._see((name, kind), taken[0][0], (), taken, [tensor], needed=True, graded=True)
        return self._followed[id(tensor)].nodes


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
    """Follow the recorded layers of a model through the forward pass made inside, and count the others."""
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
