"""Weights that a module computes anew at each forward pass: weight norm, spectral norm, pruning.

torch has two ways to do it. A parametrization (`torch.nn.utils.parametrize`) makes ``weight`` a property.
Pruning and the older functions set it in a forward pre-hook.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = [
    "change_class",
    "computed_weight",
    "parametrization_of",
    "parts_of_weights",
    "pinned_weight",
    "trained_tensors",
]


def parametrization_of(module: nn.Module) -> str:
    """Return the name of what computes a module's weight; "" if the weight is a tensor of its own.

    Examples
    --------
    >>> parametrization_of(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    'WeightNorm'
    >>> from torch.nn.utils import prune
    >>> parametrization_of(prune.l1_unstructured(nn.Linear(3, 2), "weight", 1))
    'L1Unstructured'
    """
    makers = _list_of(module) if is_parametrized(module, "weight") else _hooks_of(module).values()
    return " and ".join(type(maker).__name__.lstrip("_") for maker in makers)


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of which a module computes its weight, by name.

    Examples
    --------
    >>> [*trained_tensors(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))]
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    if is_parametrized(module, "weight"):
        return {f"parametrizations.weight.{name}": p for name, p in _list_of(module).named_parameters()}
    own = module._parameters.items()
    return {name: p for name, p in own if p is not None and name.startswith("weight")}


@contextmanager
def computed_weight(module: nn.Module, *, with_graph: bool = False) -> Iterator[None]:
    """Let ``module.weight`` inside be that of a forward pass made now, and leave the module as it was.

    In training mode each reading of a weight with spectral norm takes a step of its power iteration. A weight
    that a hook makes is that of the last forward pass until the next one. ``with_graph`` says whether
    autograd shall know of what the weight is made.
    """
    inside = [*_list_of(module).modules()] if is_parametrized(module, "weight") else [module]
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [(m._buffers, dict(m._buffers)) for m in inside]
    tensors = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.set_grad_enabled(with_graph), torch.random.fork_rng(devices=devices):
        try:
            for table, kept in tables:
                table.update({name: b.clone() for name, b in kept.items() if b is not None})
            for hook in _hooks_of(module).values():
                hook(module, ())
            yield
        finally:
            vars(module).update(tensors)
            for table, kept in tables:
                table.update(kept)


@contextmanager
def pinned_weight(module: nn.Module) -> Iterator[None]:
    """Let each forward pass inside use one weight, by which autograd can differentiate.

    It is that of a pass made now. What is below it stays in the graph: another layer may share a part of it.
    """
    with computed_weight(module, with_graph=True):
        weight: Tensor = module.weight  # type: ignore[assignment]
    if not weight.requires_grad:
        weight = weight.detach().requires_grad_()
    hooks = dict(module._forward_pre_hooks)
    held, name, pin = vars(module), "weight", cast(Any, weight)
    if is_parametrized(module, "weight"):
        held, name, pin = vars(_list_of(module)), "forward", lambda: weight
    else:
        for key in _hooks_of(module):
            del module._forward_pre_hooks[key]
    kept = {name: held[name]} if name in held else {}
    held[name] = pin
    try:
        yield
    finally:
        del held[name]
        held.update(kept)
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update(hooks)


def parts_of_weights(model: nn.Module) -> set[nn.Module]:
    """Return the modules inside the parametrizations of a model: each is a part of a weight, and no layer."""
    return {
        part
        for module in model.modules()
        if is_parametrized(module)
        for part in module._modules["parametrizations"].modules()  # type: ignore[union-attr]
    }


def change_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Change a module's class, and keep its parametrizations, which torch holds in the class."""
    if is_parametrized(module):
        held = vars(type(module)).items()
        kept = {k: v for k, v in held if isinstance(v, property) or k in ("__getstate__", "__deepcopy__")}
        kind = type(f"Parametrized{kind.__name__}", (kind,), kept)
    module.__class__ = kind


def _list_of(module: nn.Module) -> Any:
    """Return the modules that compute the weight one after the other: a ``ParametrizationList``."""
    return module.parametrizations["weight"]  # type: ignore[index]


def _hooks_of(module: nn.Module) -> dict[int, Any]:
    """Return the forward pre-hooks that make the weight, or a part of it.

    torch's have the name of the tensor, as ``name`` or ``_tensor_name``.
    """
    if not isinstance(vars(module).get("weight"), Tensor):
        return {}
    hooks = module._forward_pre_hooks.items()
    return {key: hook for key, hook in hooks if _target_of(hook).startswith("weight")}


def _target_of(hook: Any) -> str:
    return str(getattr(hook, "_tensor_name", getattr(hook, "name", "")))
