"""Choose the layers and steps of a figure, and the one layer of a sentence."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from fadiag.errors import InputError
from fadiag.figures.base.near_names import near
from fadiag.results.layers import layers_of, output_layer, primary_layer
from fadiag.results.variables import find_variable, streams_of

__all__ = [
    "caption_layer",
    "chosen_layers",
    "layers_of",
    "layers_with",
    "output_layer",
    "primary_layer",
    "steps_of",
]


def steps_of(results: xr.DataTree, stream: str | None = None) -> list[int]:
    """Return the recorded steps of a stream, by default of the first with layers."""
    for key, node in results.children.items():
        if "step" in node.coords and (key == stream or (stream is None and "layer" in node.coords)):
            return [int(step) for step in node.coords["step"].values]
    return []


def layers_with(results: xr.DataTree, variable: str) -> list[str]:
    """Return the layers at which any run has a value of a variable."""
    held = find_variable(results, variable, streams_of(results, [variable]))
    if held is None or "layer" not in held[1].dims:
        return []
    found = np.isfinite(held[1].transpose("layer", ...).values).reshape(held[1].sizes["layer"], -1)
    return [str(name) for name in held[1]["layer"].values[found.any(axis=1)]]


def caption_layer(results: xr.DataTree, held: Sequence[str]) -> str:
    """Return the layer that a caption speaks of: the primary one if it is drawn, else the last one drawn."""
    own = primary_layer(results)
    return own if own in held else held[-1]


def chosen_layers(held: Sequence[str], layers: str | Sequence[str] | None) -> list[str]:
    """Return the chosen layers in forward order, by default all.

    Raises
    ------
    InputError
        There is no such layer.

    Examples
    --------
    >>> chosen_layers(["fc1", "fc2", "out"], ["out", "fc1"])
    ['fc1', 'out']
    """
    if layers is None:
        return list(held)
    wanted = [layers] if isinstance(layers, str) else list(layers)
    for name in wanted:
        if name not in held:
            raise InputError(f"the results hold no layer {name!r}{near(name, held)}")
    return [name for name in held if name in wanted]
