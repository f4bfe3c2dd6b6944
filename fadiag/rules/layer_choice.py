"""Choose layers of a model by name, glob, module or class."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from fadiag.errors import FadiagError, InputError

__all__ = ["LayerChoice", "match_layers"]

#: One choice of layers: a name or glob, a module, or a module class.
LayerChoice = str | nn.Module | type[nn.Module]


def match_layers(
    chosen: LayerChoice | Iterable[LayerChoice],
    modules: Mapping[str, nn.Module],
    able: Mapping[str, nn.Module],
    refusal: Callable[[str, nn.Module], FadiagError],
) -> dict[str, bool]:
    """Return the names of the chosen layers, and whether each was chosen individually.

    Parameters
    ----------
    chosen : LayerChoice or iterable of LayerChoice
        Names, globs (``"conv*"``), modules of the model, or classes; the model's own name is "".
    modules : mapping of str to module
        All modules of the model.
    able : mapping of str to module
        Modules that may be chosen. A glob or a class matches only these.
    refusal : callable
        Makes the error for a module that is chosen by name and is not in ``able``.

    Returns
    -------
    dict of str to bool
        In the order of ``able``. True for a name or a module, False for a glob or a class.

    Raises
    ------
    InputError
        Nothing is chosen, or a choice matches no layer in ``able``; the error lists similar names.
    """
    wanted: dict[str, bool] = {}
    for given in [chosen] if isinstance(chosen, (str, type, nn.Module)) else chosen:
        item = _name_of(given, modules) if isinstance(given, nn.Module) else given
        if isinstance(item, type):
            hits = [name for name, module in able.items() if isinstance(module, item)]
        elif not isinstance(item, str):
            raise InputError(
                f"layers holds {item!r}, a {type(item).__name__}; give names, globs, modules or their classes"
            )
        elif item in modules and item not in able:
            raise refusal(item, modules[item])
        else:
            hits = [name for name in able if name == item or fnmatchcase(name, item)]
        if not hits:
            what = item.__name__ if isinstance(item, type) else repr(item)
            near = get_close_matches(str(item), able, n=3, cutoff=0.4)
            names = ", ".join(map(repr, near or list(able)[:6])) or "none that can be chosen"
            raise InputError(f"unknown layer {what}; {'similar names are' if near else 'there are'} {names}")
        for name in hits:
            wanted[name] = wanted.get(name, False) or name == item
    if not wanted:
        raise InputError("layers is empty, so no layer is chosen; name layers or leave it out")
    return {name: wanted[name] for name in able if name in wanted}


def _name_of(module: nn.Module, modules: Mapping[str, nn.Module]) -> str:
    for name, own in modules.items():
        if own is module:
            return name
    raise InputError(f"layers holds a {type(module).__name__} that is no module of the model; give its own")
