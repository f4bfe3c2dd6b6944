"""Handle weights that a module computes at each forward pass: weight norm, spectral norm, pruning.

torch does this in two ways. A parametrization (`torch.nn.utils.parametrize`) makes ``weight`` a property.
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
    "has_matrix",
    "parametrization_of",
    "parts_of_weights",
    "pinned_weight",
    "trained_tensors",
]


def parametrization_of(module: nn.Module) -> str:
    """Return the names of the classes that compute a module's weight, or "" if it is a plain tensor.

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
    """Return the parameters from which a module computes its weight, by name.

    Examples
    --------
    >>> [*trained_tensors(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))]
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    if is_parametrized(module, "weight"):
        return {f"parametrizations.weight.{name}": p for name, p in _list_of(module).named_parameters()}
    own = module._parameters.items()
    return {name: p for name, p in own if p is not None and name.startswith("weight")}


def has_matrix(module: nn.Module) -> bool:
    """Return whether a module's ``weight``, its own or a computed one, is a matrix or a kernel.

    Examples
    --------
    >>> has_matrix(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))), has_matrix(nn.LayerNorm(3))
    (True, False)
    """
    if module._parameters.get("weight") is None and not parametrization_of(module):
        return False
    return any(tensor.dim() >= 2 for tensor in trained_tensors(module).values())


@contextmanager
def computed_weight(module: nn.Module, *, with_graph: bool = False) -> Iterator[None]:
    """Compute ``module.weight`` as a forward pass would now, and restore the module afterwards.

    In training mode, each read of a weight with spectral norm advances its power iteration. A weight set by a
    hook otherwise stays that of the last forward pass. With ``with_graph``, autograd records how the weight
    is computed.
    """
    inside = [*_list_of(module).modules()] if is_parametrized(module, "weight") else [module]
    tables: list[tuple[dict[str, Any], dict[str, Any]]] = [(m._buffers, dict(m._buffers)) for m in inside]
    tensors = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.set_grad_enabled(with_graph), torch.random.fork_rng(devices=devices):
        try:
            for table, saved in tables:
                table.update({name: b.clone() for name, b in saved.items() if b is not None})
            for hook in _hooks_of(module).values():
                hook(module, ())
            yield
        finally:
            vars(module).update(tensors)
            for table, saved in tables:
                table.update(saved)


@contextmanager
def pinned_weight(module: nn.Module) -> Iterator[None]:
    """Use one weight in every forward pass inside, so that autograd can differentiate by it.

    It is the weight of a forward pass made now. The parameters behind it stay in the graph, since another
    layer may share some of them.
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
    saved = {name: held[name]} if name in held else {}
    held[name] = pin
    try:
        yield
    finally:
        del held[name]
        held.update(saved)
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update(hooks)


def parts_of_weights(model: nn.Module) -> set[nn.Module]:
    """Return the modules inside the parametrizations of a model: they are parts of weights, not layers."""
    return {
        part
        for module in model.modules()
        if is_parametrized(module)
        for part in module._modules["parametrizations"].modules()  # type: ignore[union-attr]
    }


def change_class(module: nn.Module, kind: type[nn.Module]) -> None:
    """Change a module's class without losing its parametrizations, which torch stores in the class."""
    if is_parametrized(module):
        held = vars(type(module)).items()
        own = {k: v for k, v in held if isinstance(v, property) or k in ("__getstate__", "__deepcopy__")}
        kind = type(f"Parametrized{kind.__name__}", (kind,), own)
    module.__class__ = kind


def _list_of(module: nn.Module) -> Any:
    """Return the ``ParametrizationList`` whose modules compute the weight one after the other."""
    return module.parametrizations["weight"]  # type: ignore[index]


def _hooks_of(module: nn.Module) -> dict[int, Any]:
    """Return the forward pre-hooks that compute the weight or a part of it.

    torch's hooks hold the name of the tensor as ``name`` or ``_tensor_name``.
    """
    if not isinstance(vars(module).get("weight"), Tensor):
        return {}
    hooks = module._forward_pre_hooks.items()
    return {key: hook for key, hook in hooks if _target_of(hook).startswith("weight")}


def _target_of(hook: Any) -> str:
    return str(getattr(hook, "_tensor_name", getattr(hook, "name", "")))
