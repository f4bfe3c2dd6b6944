"""PassGraph builds the dataflow graphs of one forward pass, one for each call of a recorded layer."""

from collections.abc import Collection, Sequence
from types import FrameType
from typing import Any

from torch import Tensor

from fadiag.capture.layers.backward_hooks import has_backward_hooks
from fadiag.capture.tracing.dataflow import Node, advance
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.tracing.grad_hooks import GradientRecorder
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.op_kinds import Kind, op_of_node
from fadiag.capture.tracing.tracked_tensors import CallNodes, TrackedTensors

__all__ = ["PassGraph"]


class PassGraph:
    """The dataflow graphs of one forward pass, and the tensors in them.

    Parameters
    ----------
    wanted : collection of str
        The signals to save.
    recorder : GradientRecorder
        Watches the tensors.
    ops : DeclaredOps

    Attributes
    ----------
    tensors : TrackedTensors
    """

    def __init__(self, wanted: Collection[str], recorder: GradientRecorder, ops: DeclaredOps) -> None:
        self.tensors = TrackedTensors()
        self._wanted = wanted
        self._recorder = recorder
        self._ops = ops
        self._frame: FrameType | None = None  # of the declared function that is running
        self._inside: list[Node] = []  # the nodes made inside that function

    def add_operation(
        self,
        operation: tuple[str, Kind],
        first: Any,
        inputs: Sequence[Tensor],
        sources: Sequence[tuple[Tensor | None, CallNodes]],
        outputs: Sequence[Tensor],
        *,
        needed: bool,
        graded: bool,
    ) -> None:
        """Add the outputs of an operation to the graph of each call whose output it reads.

        Parameters
        ----------
        operation : tuple (name, kind)
        first : any
            The first argument of the operation.
        inputs : sequence of Tensor
            All tensor arguments of the operation.
        sources : sequence of (Tensor or None, CallNodes)
            The arguments with nodes; None for a tensor that no longer exists.
        outputs : sequence of Tensor
        needed : bool
            Whether a source requires a gradient.
        graded : bool
            Whether autograd recorded the operation.
        """
        if operation[1] == "end" and not graded:  # for example the product inside a feedback layer
            for output in outputs:
                if all(output is not source for source, _ in sources):
                    self.tensors.add(output, ())
            return
        groups: dict[int, tuple[Call, list[Node], list[Tensor | None]]] = {}
        for tensor, call_nodes in sources:
            for call, node in call_nodes:
                group = groups.setdefault(id(call), (call, [], []))
                group[1].append(node)
                group[2].append(tensor)
        made: list[list[tuple[Call, Node]]] = [[] for _ in outputs]
        for call, nodes, tensors in groups.values():
            others = [tensor for tensor in inputs if all(tensor is not own for own in tensors)]
            leads = tensors[0] is first
            whole = len(outputs) == 1 and outputs[0].shape.numel() == nodes[0].shape.numel()
            kind, name, node = advance(*operation, nodes, leads=leads, others=others, whole=whole)
            parents = {id(n): n for n in nodes if n.stage != "derived"}
            for output, output_nodes in zip(outputs, made, strict=True):
                # A result without a gradient (a mask, a metric) is derived from a node, but is no use of it.
                is_use = graded and (output.requires_grad or (not needed and output.is_floating_point()))
                if kind is None or not parents:
                    new = node
                else:
                    new = node.child(kind if is_use else "unclear", name, output.shape)
                    if is_use:
                        for parent in parents.values():
                            parent.uses.append(new)
                        self._recorder.on_output(output, new)
                if kind not in {None, "end"}:
                    output_nodes.append((call, new))
        for output, output_nodes in zip(outputs, made, strict=True):
            # In-place operations inside an autograd function are handled when the function has ended.
            if graded or all(output is not source for source, _ in sources):
                self.tensors.add(output, output_nodes)

    def add_inside(
        self,
        frame: FrameType,
        operation: tuple[str, Kind],
        inputs: Sequence[Tensor],
        sources: Sequence[tuple[Tensor, CallNodes]],
        outputs: Sequence[Tensor],
        **how: bool,
    ) -> None:
        """Add an operation inside a declared function as an operation on the function's arguments.

        Only the last operation gives the function's result. An intermediate result is therefore no use of an
        argument: the operation that reads it takes its place.
        """
        if frame is not self._frame:
            self._frame, self._inside = frame, []
        whole: dict[tuple[int, int], tuple[Tensor, tuple[Call, Node]]] = {}
        for tensor, call_nodes in sources:
            for call, node in call_nodes:
                argument = node
                if node in self._inside and node.parent is not None:
                    argument = node.parent
                    if node in argument.uses:
                        argument.uses.remove(node)
                whole.setdefault((id(call), id(argument)), (tensor, (call, argument)))
        arguments = [(tensor, [one]) for tensor, one in whole.values()]
        self.add_operation(operation, arguments[0][0], inputs, arguments, outputs, **how)
        for output in outputs:
            if (tracked := self.tensors.get(output)) is not None:
                self._inside += [node for _, node in tracked.nodes]

    def clear(self) -> None:
        """Forget all tensors, at the end of a forward pass."""
        self.tensors.clear()
        self._frame, self._inside = None, []

    def nodes_of(self, tensor: Tensor) -> CallNodes:
        """Return the nodes of a tensor.

        If no reported operation made the tensor, its place in autograd's graph shows the operation.
        """
        grad_fn: Any = tensor.grad_fn
        tracked = self.tensors.get(tensor)
        # The output of an autograd function gets a new grad_fn when the function has ended.
        if tracked is not None and tracked.grad_fn is grad_fn:
            return tracked.nodes
        if tracked is None and grad_fn is None:
            return ()  # a parameter, or data
        edges = () if grad_fn is None else grad_fn.next_functions
        if not self.tensors.at_edges(edges):
            return () if tracked is None else tracked.nodes
        declared = self._ops.of_node(grad_fn)
        name, kind = declared or op_of_node(grad_fn)
        is_hook = name == "backward_hook_function"
        if is_hook:
            edges = edges[tensor.output_nr : tensor.output_nr + 1]
        sources: list[tuple[Tensor | None, CallNodes]] = []
        for parent in self.tensors.at_edges(edges):
            source, nodes = parent.tensor(), parent.nodes
            if source is not None and self.tensors.get(source) is not parent:
                source = None  # it was changed in place
            if kind == "gate":
                for _, node in nodes:
                    if source is not None:
                        self._recorder.watch(source, node, "error_post")
                    elif "error_post" in self._wanted and not node.saves_gradient:
                        kind = "unclear"
            sources.append((source, nodes))
        self.add_operation((name, kind), sources[0][0], (), sources, [tensor], needed=True, graded=True)
        made = self.nodes_of(tensor)
        if is_hook or (declared is not None and kind == "pass"):
            for call, node in made:
                # A hook of the layer itself changes the error, not the credit that its gate receives.
                is_own = node.parent is call.output and has_backward_hooks(call.layer.module)
                if not (is_hook and is_own):
                    node.suspect()
        return made
