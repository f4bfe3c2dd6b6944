"""Resolve ``Recorder(layers=...)``: names, globs, modules and classes."""

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from fadiag.capture.layers.adapter import has_own_forward
from fadiag.errors import CaptureError, InputError

__all__ = ["LayerChoice", "chosen_names", "own_forward_message"]

#: One choice of layers: a name or glob, a module, or a class of them.
LayerChoice = str | nn.Module | type[nn.Module]


def chosen_names(
    chosen: LayerChoice | Iterable[LayerChoice],
    modules: dict[str, nn.Module],
    found: dict[str, nn.Module],
) -> dict[str, bool]:
    """Return the names chosen, and whether by the name itself (or the module) or by a glob or class.

    Parameters
    ----------
    chosen : iterable of str, module or module class
    modules : dict of str to nn.Module
        All modules of the model.
    found : dict of str to nn.Module
        Those that an adapter takes.

    Raises
    ------
    InputError
        A choice that is none, or that no module answers to.
    CaptureError
        A layer with a forward pass of its own, by name.
    """
    wanted: dict[str, bool] = {}
    for given in [chosen] if isinstance(chosen, (str, type, nn.Module)) else chosen:
        item = _name_of(given, modules) if isinstance(given, nn.Module) else given
        if isinstance(item, type):
            hits = [name for name, module in found.items() if isinstance(module, item)]
        elif not isinstance(item, str):
            raise InputError(
                f"layers holds {item!r}, a {type(item).__name__}; give names, globs, modules or their classes"
            )
        elif item in modules and item not in found:
            if has_own_forward(modules[item]):
                raise CaptureError(own_forward_message(item, modules[item]))
            kind = type(modules[item]).__name__
            raise InputError(
                f"layer {item!r} is a {kind}, for which there is no adapter; "
                "give adapters=(LayerAdapter(...),)"
            )
        else:
            hits = [name for name in found if name == item or fnmatchcase(name, item)]
        if not hits:
            what = item.__name__ if isinstance(item, type) else repr(item)
            near = get_close_matches(str(item), found, n=3, cutoff=0.4)
            names = ", ".join(map(repr, near or list(found)[:6])) or "none that an adapter knows"
            raise InputError(f"unknown layer {what}; {'near are' if near else 'there are'} {names}")
        for name in hits:
            wanted[name] = wanted.get(name, False) or name == item
    return {name: wanted[name] for name in found if name in wanted}


def _name_of(module: nn.Module, modules: dict[str, nn.Module]) -> str:
    for name, own in modules.items():
        if own is module:
            return name
    raise InputError(f"layers holds a {type(module).__name__} that is no module of the model; give its own")


def own_forward_message(name: str, module: nn.Module) -> str:
    """Say what to do with a layer that has a forward pass of its own."""
    kind = type(module).__name__
    return (
        f"layer {name!r} is a {kind} with a forward pass of its own, so its feedback is not known; give "
        f"adapters=(exact_layers({kind}),) where its backward pass is autograd's, a LayerAdapter where it is "
        "not, or leave it out by layers=[...]"
    )
