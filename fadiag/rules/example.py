"""Find the order, input shapes and output layer of a model's layers by one pass without a trace."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.errors import InputError

__all__ = ["Example", "LayerUse", "uses_of"]

#: A batch that a model takes: its argument, or a tuple or mapping of its arguments.
Example = Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class LayerUse:
    """How a pass uses a layer.

    Attributes
    ----------
    input_shape : torch.Size
        The shape of a sample of the layer's input.
    is_first, is_output : bool
        Whether the layer is called first, and whether its result is the network's output.
    """

    input_shape: torch.Size
    is_first: bool
    is_output: bool


def uses_of(
    model: nn.Module, layers: Mapping[str, nn.Module], example: Example
) -> tuple[dict[str, LayerUse], int]:
    """Return how a pass of the example uses each layer, in the order of the calls, and the number of outputs.

    The pass runs in eval mode under ``no_grad``. Buffers, training flags and torch's random numbers are as
    before afterwards.

    Raises
    ------
    InputError
        A layer is not called exactly once, its input has no axis of samples, or the last layer does not
        compute the model's outputs, of shape (sample, outputs).

    Examples
    --------
    >>> layers = {"last": nn.Linear(3, 2), "first": nn.Linear(4, 3)}
    >>> model = nn.ModuleDict(layers)
    >>> model.forward = lambda x: layers["last"](layers["first"](x))
    >>> uses, outputs = uses_of(model, layers, torch.ones(5, 4))
    >>> list(uses), uses["last"].input_shape, outputs
    (['first', 'last'], torch.Size([3]), 2)
    """
    inputs: dict[str, torch.Size] = {}
    results: dict[str, torch.Size] = {}

    def note(name: str, module: nn.Module, given: Any, output: Tensor) -> None:
        if name in inputs:
            raise InputError(
                f"layer {name!r} is called more than once in a pass, so its input has no single place; leave "
                "it out by layers=[...]"
            )
        inputs[name], results[name] = given[0].shape, output.shape

    handles = [module.register_forward_hook(partial(note, name)) for name, module in layers.items()]
    try:
        with _without_trace(model):
            found = model(*_arguments(example)[0], **_arguments(example)[1])
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in inputs:
            raise InputError(
                f"layer {name!r} is not called in the pass of the example; leave it out by layers=[...], or "
                "give an example that uses it"
            )
    last, outputs = next(reversed(results.items()))
    shapes = [tensor.shape for tensor in _tensors(found)]
    if len(outputs) != 2:
        raise InputError(
            f"the last layer called, {last!r}, returns the shape {tuple(outputs)}, and direct feedback needs "
            "outputs of shape (sample, outputs); give a model that pools or flattens before its last layer"
        )
    if outputs not in shapes:
        said = ", ".join(str(tuple(shape)) for shape in shapes) or "no tensor"
        raise InputError(
            f"the last layer called, {last!r}, returns the shape {tuple(outputs)}, and the model returns "
            f"{said}; it must be the output layer, so add that to layers=[...]"
        )
    for name, shape in inputs.items():
        if len(shape) < 2 or shape[0] != outputs[0]:
            raise InputError(
                f"layer {name!r} has an input of shape {tuple(shape)}, whose first axis is not that of the "
                f"{outputs[0]} samples of the outputs; leave it out by layers=[...]"
            )
    first = next(iter(inputs))
    return (
        {name: LayerUse(shape[1:], name == first, name == last) for name, shape in inputs.items()},
        outputs[1],
    )


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


@contextmanager
def _without_trace(model: nn.Module) -> Iterator[None]:
    flags = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices)):
        for module in flags:
            module.training = False
        try:
            yield
        finally:
            for module, training in flags.items():
                module.training = training
            for buffer, before in buffers:
                buffer.copy_(before)
