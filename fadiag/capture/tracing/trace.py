"""Trace follows the output of each recorded layer through the operations of a forward pass.

It recognizes a tensor by its identity. Functions, methods, modules and in-place operations are therefore all
handled alike. Torch does not report some operations, such as autograd functions. The trace recognizes them by
their nodes in autograd's graph.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from fadiag.capture.layers.backward_hooks import has_backward_hooks
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.tracing.consumers import LayerPlace, place_of
from fadiag.capture.tracing.dataflow import Node
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.tracing.grad_hooks import GradientRecorder, Purpose
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.model_output import has_reentrant_checkpoint, samples_in
from fadiag.capture.tracing.op_kinds import Kind, is_metadata_query, kind_of, name_of
from fadiag.capture.tracing.pass_graph import PassGraph
from fadiag.capture.tracing.tracked_tensors import CallNodes, tensors_in
from fadiag.errors import CaptureError

__all__ = ["Trace"]


#: Tensors made from the output of a layer, with their nodes.
Sources = Sequence[tuple[Tensor, CallNodes]]


class Trace(TorchFunctionMode):
    """The calls of the recorded layers in one forward pass.

    Use `fadiag.capture.tracing.module_hooks.trace_calls`, which also attaches the hooks.

    Parameters
    ----------
    signals : collection of str
        The signals to save.
    save_edges : bool
        Whether to save the places of the layers' inputs, outputs and activations in autograd's graph.
    ops : DeclaredOps, optional
        The user's declarations of unknown operations.

    Attributes
    ----------
    calls : list of Call
    places : list of LayerPlace
        The places of the calls of all layers, recorded or not, if they are saved. `Call.order` is the index.
    loss : Tensor or None
        The loss, if its graph is retained.
    count : int
        The number of calls of all layers, recorded or not.
    last : RecordedLayer or None
        The layer of the last call.
    outputs : int
        The number of samples in the model's output; 0 if the output has no tensor with axes.
    """

    def __init__(
        self, signals: Collection[str], *, save_edges: bool = False, ops: DeclaredOps | None = None
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.places: list[LayerPlace] = []
        self.loss: Tensor | None = None
        self.count = 0
        self.last: RecordedLayer | None = None
        self.outputs = 0
        self._wanted = frozenset(signals)
        self._by_name: dict[str, Call] = {}
        self._calls_of: Counter[int] = Counter()  # by a layer's id
        self._save_edges = save_edges
        self._recorder = GradientRecorder(signals, save_edges=save_edges)
        self._with_grad = torch.is_grad_enabled()
        self._without_grad: RecordedLayer | None = None  # a layer that ran under no_grad
        self._depth = 0  # of nested calls: a model may call itself
        self._ops = ops or DeclaredOps()
        self._graph = PassGraph(self._wanted, self._recorder, self._ops)
        # The declared module that is running, and its inputs.
        self._declared: tuple[nn.Module, Sources] | None = None

    def on_layer_call(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Start the trace of a recorded layer's output."""
        if not isinstance(output, Tensor):
            raise CaptureError(
                f"layer {layer.name!r} returns a {type(output).__name__}; only a tensor can be recorded"
            )
        if torch.is_grad_enabled() != self._with_grad:
            self._without_grad = layer
            self.count_layer_call(layer, inputs, output)
            return
        compiling = torch.compiler.is_compiling()  # torch.compile cannot trace the check below
        if not compiling and torch._C._functorch.is_functorch_wrapped_tensor(output):
            raise CaptureError(
                f"layer {layer.name!r} is called inside a transformation of torch.func (vmap, grad, jacrev), "
                "where its signals cannot be seen; call it on the whole batch outside, or leave it out by "
                "layers=[...]"
            )
        index = self._calls_of[id(layer)]
        self._calls_of[id(layer)] += 1
        with torch._C.DisableTorchFunction():
            call = Call(layer, index, self.count, Node("output", layer.name, "own", output.shape))
            self.count_layer_call(layer, inputs, output)
            # The input of an embedding is indices, not values.
            first = inputs[0] if inputs else None
            if "input" in self._wanted and isinstance(first, Tensor) and first.is_floating_point():
                call.values["input"] = first.detach().clone()
            self.calls.append(call)
            self._recorder.on_output(output, call.output)
            self._graph.tensors.add(output, [(call, call.output)])

    def call_named(self, name: str) -> Call | None:
        """Return the call with a name; None if this pass has no such call."""
        if len(self._by_name) != len(self.calls):
            self._by_name = {call.name: call for call in self.calls}
        return self._by_name.get(name)

    def count_layer_call(self, layer: RecordedLayer, inputs: Any, output: Any) -> None:
        """Count a call of a layer, and add the call to the uses of its inputs."""
        self.count += 1
        self.last = layer
        with torch._C.DisableTorchFunction():
            if self._save_edges:
                self.places.append(place_of(layer, inputs, output))
            # Torch does not report the operations inside a feedback layer, so the use is added here.
            for tensor in tensors_in(inputs):
                nodes = self._graph.nodes_of(tensor)
                self._recorder.resave(tensor, (node for _, node in nodes))
                for _, node in nodes:
                    use = Node("end", layer.name, node.stage, tensor.shape, node, got_gradient=True)
                    node.uses.append(use)
            for tensor in tensors_in(output):
                self._graph.tensors.add(tensor, ())

    def enter_declared(self, module: nn.Module, inputs: Any) -> None:
        """Start the call of a declared module; the operations inside are not traced."""
        if self._declared is None:
            with torch._C.DisableTorchFunction():
                self._declared = module, self._prepare(list(tensors_in(inputs)), self._ops.modules[module])

    def leave_declared(self, module: nn.Module, output: Any) -> None:
        """Add the output of a declared module to the dataflow graphs of its input."""
        if self._declared is None or self._declared[0] is not module:
            return
        sources, self._declared = self._declared[1], None
        with torch._C.DisableTorchFunction():
            outputs = list(tensors_in(output))
            if sources and outputs:
                operation = type(module).__name__, self._ops.modules[module]
                first = sources[0][0]
                needed = any(tensor.requires_grad for tensor, _ in sources)
                graded = torch.is_grad_enabled()
                inputs = [tensor for tensor, _ in sources]
                self._graph.add_operation(
                    operation, first, inputs, sources, outputs, needed=needed, graded=graded
                )
                for node in (node for output in outputs for _, node in self._graph.nodes_of(output)):
                    if operation[1] == "pass":
                        node.suspect()
                    elif module in self._ops.senders or has_backward_hooks(module):
                        node.replaced = "yes"

    def _prepare(self, inputs: Sequence[Tensor], kind: Kind) -> Sources:
        """Return the tensors with nodes, and watch them before an operation that may change them in place."""
        sources = [(tensor, nodes) for tensor in inputs if (nodes := self._graph.nodes_of(tensor))]
        for tensor, nodes in sources:
            if kind != "unclear":
                self._recorder.resave(tensor, (node for _, node in nodes))
            if kind == "gate":
                for _, node in nodes:
                    self._recorder.watch(tensor, node, "error_post")
        return sources

    def enter_model(self) -> None:
        """Count a call of the model, by the user or by itself."""
        self._depth += 1

    def leave_model(self, output: Any) -> bool:
        """End a call of the model, and return whether it was the user's call.

        The loss follows. A gate in the loss belongs to no layer, so the trace of the output ends here.
        """
        self._depth -= 1
        if self._depth == 0:
            self.outputs = samples_in(output)
            with torch._C.DisableTorchFunction():
                for tensor in tensors_in(output):
                    nodes = self._graph.nodes_of(tensor)
                    self._recorder.resave(tensor, (node for _, node in nodes))
                    for _, node in nodes:
                        node.uses.append(
                            replace(node.child("pass", "return", tensor.shape), got_gradient=True)
                        )
                    self._graph.tensors.add(tensor, ())
                if self._without_grad is not None and any(map(has_reentrant_checkpoint, tensors_in(output))):
                    raise CaptureError(
                        f"layer {self._without_grad.name!r} ran without autograd inside a pass with it, so "
                        "its error cannot be seen; checkpoint with use_reentrant=False, or leave the layer "
                        "out by layers=[...]"
                    )
        return self._depth == 0

    def stop(self) -> None:
        """Remove all hooks and forget the tensors."""
        self._recorder.stop()
        self.forget_tensors()

    @property
    def purpose(self) -> Purpose:
        """The purpose of the backward passes so far."""
        return self._recorder.purpose

    def note_weights(self) -> None:
        """Store the present weights of the layers, which functional_call may replace for one pass.

        Call it after the trace has ended; otherwise the trace records these operations too.
        """
        trained = (tensor for call in self.calls for tensor in call.layer.trained.values())
        weights = {id(tensor): tensor for tensor in trained if tensor.requires_grad}
        self._recorder.note_weights([get_gradient_edge(weight) for weight in weights.values()])

    def forget_tensors(self) -> None:
        """Forget the tracked tensors at the end of the forward pass."""
        self._graph.clear()

    def reset_gradients(self) -> None:
        """Drop the gradients of a backward pass inside the loss."""
        self._recorder.reset_gradients()

    def finish(self) -> None:
        """Read the signals of each call after the backward pass."""
        for call in self.calls:
            call.finish(self._wanted)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and add its results to the dataflow graphs of its inputs."""
        kwargs = kwargs or {}
        if not self._graph.tensors or self._declared is not None or is_metadata_query(func):
            return func(*args, **kwargs)
        name = name_of(func)
        if name.endswith("_like") or name.startswith("new_"):
            return func(*args, **kwargs)
        writes = name == "__setitem__"
        inputs = list(tensors_in((*args, *kwargs.values())))
        kind = self._ops.named.get(name) or kind_of(name)
        frame = self._ops.on_stack()
        if frame is not None:
            name, kind = frame.f_code.co_name, self._ops.code[frame.f_code]
        sources = self._prepare(inputs, kind)
        if not sources:
            return func(*args, **kwargs)
        first = args[0] if args else next(iter(kwargs.values()))
        needed = any(tensor.requires_grad for tensor, _ in sources)
        views = [(tensor, tensor._version, nodes) for tensor, nodes in sources if tensor._is_view()]
        result = func(*args, **kwargs)
        outputs = list(tensors_in(first if writes else result))
        for view, version, nodes in views:
            if view._version != version:
                self._recorder.watch_view(view, [node for _, node in nodes])
        if outputs and not (kind == "pass" and outputs[0] is first):
            graded = torch.is_grad_enabled()
            if frame is not None:
                self._graph.add_inside(
                    frame, (name, kind), inputs, sources, outputs, needed=needed, graded=graded
                )
            else:
                self._graph.add_operation(
                    (name, kind), first, inputs, sources, outputs, needed=needed, graded=graded
                )
        return result
