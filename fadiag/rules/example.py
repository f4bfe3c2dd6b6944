"""Find the order, input shapes and output layer of a model's layers by one pass without a trace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules.left_out import WITHOUT_FEEDBACK, matrices_of

__all__ = ["Example", "LayerUse", "check_direct", "uses_of"]

#: A batch that a model takes: its argument, or a tuple or mapping of its arguments.
Example = Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class LayerUse:
    """How a pass uses a layer.

    Attributes
    ----------
    calls : int
        The number of its calls.
    input_shape, output_shape : torch.Size
        Shapes at its last call.
    is_first, is_output : bool
        Whether it is called first, and whether its result is the network's output: no matrix of another
        layer lies between them. If that holds of several layers, the last one called is the output layer.
    """

    calls: int
    input_shape: torch.Size
    output_shape: torch.Size
    is_first: bool
    is_output: bool


def uses_of(model: nn.Module, layers: Mapping[str, nn.Module], example: Example) -> dict[str, LayerUse]:
    """Return how a pass of the example uses each layer, in the order of the first calls.

    The pass runs in eval mode. Buffers, training flags and torch's random numbers are as before afterwards.

    Raises
    ------
    InputError
        A layer is not called.

    Examples
    --------
    >>> layers = {"last": nn.Linear(3, 2), "first": nn.Linear(4, 3)}
    >>> model = nn.ModuleDict(layers)
    >>> model.forward = lambda x: layers["last"](layers["first"](x))
    >>> uses = uses_of(model, layers, torch.ones(5, 4))
    >>> list(uses), uses["last"].input_shape, uses["last"].is_output
    (['first', 'last'], torch.Size([5, 3]), True)
    """
    shapes: dict[str, tuple[torch.Size, torch.Size]] = {}
    calls: list[str] = []
    leaves: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, given: Any, output: Tensor) -> Tensor:
        calls.append(name)
        shapes[name] = given[0].shape, output.shape
        # The graph of what the model returns ends here, in a leaf. A copy, since a gate may work in place.
        leaves[name] = output.detach().requires_grad_()
        return leaves[name].clone()

    handles = [module.register_forward_hook(partial(note, name)) for name, module in layers.items()]
    positional, named = _arguments(example)
    try:
        with _without_trace(model):
            returned = [_leaves_of(tensor) for tensor in _tensors(model(*positional, **named))]
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in shapes:
            raise InputError(
                f"layer {name!r} is not called in the pass of the example; leave it out by layers=[...], or "
                "give an example that uses it"
            )
    other = {
        id(matrix)
        for module in model.modules()
        if module not in layers.values() and not isinstance(module, WITHOUT_FEEDBACK)
        for matrix in matrices_of(module)
    }
    above = set().union(*(reached for reached in returned if reached & other))
    outputs = set().union(*returned) - above
    last = next((name for name in reversed(calls) if id(leaves[name]) in outputs), None)
    return {
        name: LayerUse(calls.count(name), *shapes[name], name == calls[0], name == last)
        for name in dict.fromkeys(calls)
    }


def check_direct(uses: Mapping[str, LayerUse]) -> int:
    """Return the number of outputs of a network, if its layers can have direct feedback.

    Raises
    ------
    InputError
        A layer is called several times, its input has no axis of samples, or no layer computes the model's
        outputs, of shape (sample, outputs).
    """
    last = next((name for name, use in uses.items() if use.is_output), None)
    for name, use in uses.items():
        if use.calls > 1:
            raise InputError(
                f"layer {name!r} is called more than once in a pass, so its input has no single place; leave "
                "it out by layers=[...]"
            )
    if last is None:
        name = [*uses][-1]
        raise InputError(
            f"the last layer called, {name!r}, is not the output layer: its result goes through another "
            "matrix, or the model does not return it; add the output layer to layers=[...]"
        )
    outputs = uses[last].output_shape
    if len(outputs) != 2:
        raise InputError(
            f"the output layer {last!r} returns the shape {tuple(outputs)}, and direct feedback needs "
            "(sample, outputs); give a model that pools or flattens before its last layer"
        )
    for name, use in uses.items():
        shape = use.input_shape
        if len(shape) < 2 or shape[0] != outputs[0]:
            raise InputError(
                f"layer {name!r} has an input of shape {tuple(shape)}, whose first axis is not that of the "
                f"{outputs[0]} samples of the outputs; leave it out by layers=[...]"
            )
    return outputs[1]


def _arguments(example: Example) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(example, Mapping):
        return (), example
    return (example, {}) if isinstance(example, (tuple, list)) else ((example,), {})


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a model returned."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _leaves_of(tensor: Tensor) -> set[int]:
    """Return the ids of the leaves of autograd's graph that a tensor comes from."""
    nodes: list[Any] = [tensor.grad_fn]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes.extend(below for below, _ in node.next_functions)
    return {id(node.variable) for node in seen if hasattr(node, "variable")}


@contextmanager
def _without_trace(model: nn.Module) -> Iterator[None]:
    """Run in eval mode with a graph that includes frozen parameters, and restore everything."""
    flags = {module: module.training for module in model.modules()}
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    with torch.enable_grad(), torch.random.fork_rng(devices=sorted(devices)):
        for module in flags:
            module.training = False
        for parameter in frozen:
            parameter.requires_grad = True
        try:
            yield
        finally:
            for module, training in flags.items():
                module.training = training
            for parameter in frozen:
                parameter.requires_grad = False
            for buffer, before in buffers:
                buffer.copy_(before)
