"""Find the layers of results in their order, the primary one, and those that patterns match."""

from collections.abc import Container, Iterable, Sequence
from fnmatch import fnmatchcase

import xarray as xr

from fadiag.errors import InputError
from fadiag.results.layer_order import merge_orders
from fadiag.results.run_labels import conditions_of

__all__ = [
    "layers_of",
    "matching_layers",
    "output_layer",
    "primary_layer",
    "primary_layers",
    "select_layers",
]

_PASSES = ("probe", "live")
#: An error lists at most so many layers.
_LISTED = 12


def layers_of(results: xr.DataTree) -> list[str]:
    """Return the layers of the passes in forward order. Weights may have more, such as an unused head."""
    kinds: dict[bool, list[list[str]]] = {True: [], False: []}
    for key, node in results.children.items():
        if "layer" in node.coords:
            kinds[str(node.attrs.get("kind", key)) in _PASSES].append(
                [str(v) for v in node.coords["layer"].values]
            )
    return merge_orders(kinds[True] or kinds[False])


def output_layer(results: xr.DataTree) -> str:
    """Return the last layer of the passes; "" if no variable has layers."""
    return next(reversed(layers_of(results)), "")


def primary_layer(results: xr.DataTree) -> str:
    """Return the layer that the study declared, else the one below the output; "" without layers."""
    layers = layers_of(results)
    declared = {
        str(v)
        for node in results.subtree
        if "primary_layer" in node.coords
        for v in node.coords["primary_layer"].values
    }
    if len(declared) == 1 and (only := declared.pop()) in layers:
        return only
    return layers[-2] if len(layers) > 1 else "".join(layers)


def primary_layers(results: xr.DataTree, conditions: Container[str]) -> list[str]:
    """Return the primary layers of the runs of some conditions, without repeats: each network has its own."""
    found: dict[str, None] = {}
    for node in results.children.values():
        stream = node.to_dataset()
        if "primary_layer" in stream.coords:
            of_run = zip(conditions_of(stream) or [], stream["primary_layer"].values, strict=False)
            found |= {str(layer): None for condition, layer in of_run if condition in conditions}
    return list(found)


def matching_layers(held: Iterable[str], patterns: str | Sequence[str]) -> list[str]:
    """Return the layers that a name or a pattern matches, in their own order.

    Raises
    ------
    InputError
        A pattern matches no layer. The error lists the layers.

    Examples
    --------
    >>> matching_layers(["fc1", "fc2", "out"], ["out", "fc*"])
    ['fc1', 'fc2', 'out']
    """
    names = list(dict.fromkeys(held))
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    found = set()
    for pattern in wanted:
        hits = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            known = f"there are {', '.join(names[:_LISTED])}{more}" if names else "there are none"
            raise InputError(f"no layer matches {pattern!r}; {known}")
        found.update(hits)
    return [name for name in names if name in found]


def select_layers(results: xr.DataTree, layers: str | Sequence[str]) -> xr.DataTree:
    """Return the results of some layers, by their names or patterns such as ``fc*``.

    Variables without layers, such as the accuracy, are kept.

    Raises
    ------
    InputError
        A pattern matches no layer.

    Examples
    --------
    >>> probe = xr.Dataset({"rank": ("layer", [9.0, 5.0])}, {"layer": ["fc1", "out"]})
    >>> select_layers(xr.DataTree.from_dict({"/probe": probe}), "fc*")["probe/rank"].values.tolist()
    [9.0]
    """
    groups = {path: node.to_dataset() for path, node in results.subtree_with_keys}
    held = [str(v) for group in groups.values() if "layer" in group.coords for v in group["layer"].values]
    wanted = set(matching_layers(held, layers))
    chosen = {
        path: group.isel(layer=[i for i, v in enumerate(group["layer"].values) if str(v) in wanted])
        if "layer" in group.dims
        else group
        for path, group in groups.items()
    }
    return xr.DataTree.from_dict(chosen, name=results.name)
