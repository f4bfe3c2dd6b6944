"""Save module state before a probe pass and restore it afterwards.

A forward pass may change a module's buffers, counters, hidden states, caches or random generators. Without
the restore, these changes would reach the training run.
"""

import copy
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fadiag.errors import CaptureError

__all__ = ["guard_parameters", "preserve_gradients", "preserve_module_state"]

_BOUND = {"training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
#: torch's own attributes of a module that are not restored: those of hooks.
_HOOKS = frozenset(vars(nn.Module())) - _BOUND
# Exactly these classes: the methods of a subclass may behave differently.
_MAPPINGS = {dict, OrderedDict, defaultdict, Counter}
_CONTAINERS = {list, deque, set, *_MAPPINGS}
_PLAIN = {type(None), bool, int, float, str}

Undo = list[tuple[Callable[..., Any], tuple[Any, ...]]]


@contextmanager
def preserve_module_state(model: nn.Module) -> Iterator[None]:
    """Restore, on exit, the attributes of the model's modules and the contents of these attributes.

    Attributes that were set or deleted are restored, including parameters, buffers and submodules. Lists,
    dicts, sets, tensors and random generators get their old contents back. Buffers are clones inside. Objects
    of other classes are not restored, and neither are the values of parameters.
    """
    modules = list(model.modules())
    clones = {id(buffer): buffer.detach().clone() for buffer in model.buffers()}
    undo: Undo = []
    seen = set(clones)
    for module in modules:
        held = {name: value for name, value in vars(module).items() if name not in _HOOKS}
        undo.append((_bind, (vars(module), held)))
        for value in held.values():
            if type(value) not in _PLAIN:
                _save(value, undo, seen)
    try:
        for module in modules:
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    undo.append((module._buffers.__setitem__, (name, buffer)))
                    module._buffers[name] = clones[id(buffer)]
        yield
    finally:
        for put_back, given in reversed(undo):
            put_back(*given)


@contextmanager
def preserve_gradients(model: nn.Module) -> Iterator[None]:
    """Hide every ``.grad`` of the model inside, and restore the same tensors on exit.

    A backward pass inside an autograd function's backward pass adds to ``.grad``, even under
    ``torch.autograd.grad``. It then adds to new tensors, so no copy is needed.
    """
    held = [x for module in model.modules() for x in (*module._parameters.values(), *vars(module).values())]
    leaves = {id(x): x for x in held if isinstance(x, Tensor) and x.is_leaf}
    before = [(leaf, leaf.grad) for leaf in leaves.values()]
    try:
        for leaf, gradient in before:
            if gradient is not None:
                leaf.grad = None
        yield
    finally:
        for leaf, gradient in before:
            if leaf.grad is not gradient:
                leaf.grad = gradient


@contextmanager
def guard_parameters(model: nn.Module) -> Iterator[None]:
    """Restore, on exit, the values of the parameters that a pass is known to write to.

    These are the parameters of modules that override ``train()``, which may merge weights, and of embeddings
    with ``max_norm``, which renormalize themselves. A copy of all parameters would double the model's memory.

    Raises
    ------
    CaptureError
        Another parameter was changed in place.
    """
    written = {
        id(parameter): parameter
        for module in model.modules()
        if type(module).train is not nn.Module.train or getattr(module, "max_norm", None) is not None
        for parameter in module.parameters()
    }
    before = [(parameter, parameter.detach().clone()) for parameter in written.values()]
    others = [
        (name, parameter, _version(parameter))
        for name, parameter in model.named_parameters()
        if id(parameter) not in written
    ]
    try:
        yield
    finally:
        for parameter, values in before:
            parameter.data.copy_(values)
    for name, parameter, version in others:
        if _version(parameter) != version:
            raise CaptureError(
                f"a pass changed the parameter {name!r} in place, so a probe would change the run; do that "
                "outside forward(), for example after optimizer.step()"
            )


def _bind(attributes: dict[str, Any], held: dict[str, Any]) -> None:
    for name in [name for name in attributes if name not in held and name not in _HOOKS]:
        del attributes[name]
    attributes.update(held)


def _save(value: Any, undo: Undo, seen: set[int]) -> None:
    """Add the calls that restore the contents of a value in place; other objects may refer to it."""
    kind = type(value)
    if kind in _CONTAINERS or kind is tuple:
        if id(value) in seen:
            return
        seen.add(id(value))
        if kind is not tuple:
            undo.append((_refill, (value, copy.copy(value))))
        for item in value.values() if kind in _MAPPINGS else value:
            if type(item) not in _PLAIN:
                _save(item, undo, seen)
    elif isinstance(value, Tensor):
        # guard_parameters handles parameters. Outside inference mode, nothing changes an inference tensor.
        weight = isinstance(value, nn.Parameter) or (value.is_leaf and value.requires_grad)
        if not weight and id(value) not in seen and not value.is_inference():
            seen.add(id(value))
            undo.append((_rewrite, (value, value._version, value.detach().clone())))
    elif isinstance(value, np.ndarray):
        if value.flags.writeable:
            undo.append((np.copyto, (value, value.copy())))
    elif isinstance(value, torch.Generator):
        undo.append((value.set_state, (value.get_state(),)))
    elif isinstance(value, np.random.Generator):
        undo.append((setattr, (value.bit_generator, "state", value.bit_generator.state)))
    elif isinstance(value, np.random.RandomState):
        undo.append((value.set_state, (value.get_state(),)))
    elif isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        undo.append((value.setstate, (value.getstate(),)))


def _refill(container: Any, contents: Collection[Any]) -> None:
    container.clear()
    (container.extend if isinstance(container, (list, deque)) else container.update)(contents)


def _rewrite(tensor: Tensor, version: int, values: Tensor) -> None:
    # A write through .data does not change the version.
    if tensor._version != version or not torch.equal(tensor, values):
        tensor.data.copy_(values)  # autograd does not see a write through .data


def _version(parameter: Tensor) -> int:
    return 0 if parameter.is_inference() else parameter._version
