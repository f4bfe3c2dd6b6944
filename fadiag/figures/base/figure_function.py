"""Check what every figure function is given: results, and the layers under either name."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

from matplotlib.axes import Axes

from fadiag.errors import InputError
from fadiag.results.io import require_results

__all__ = ["figure_function", "one_layer"]

Given = ParamSpec("Given")


def figure_function(draw: Callable[Given, Axes]) -> Callable[Given, Axes]:
    """Let a figure function refuse what is no results, and take its layers as ``layer`` or ``layers``.

    Examples
    --------
    >>> import xarray as xr
    >>> @figure_function
    ... def draw(results, layer=None):
    ...     return layer
    >>> draw(xr.DataTree(), layers=["fc3"])
    'fc3'
    """
    own = inspect.signature(draw).parameters

    @wraps(draw)
    def checked(*args: Given.args, **options: Given.kwargs) -> Axes:
        require_results(args[0] if args else options.get("results"))
        if "layers" in options and "layers" not in own and "layer" in own:
            options.setdefault("layer", one_layer(options.pop("layers")))  # type: ignore[arg-type]
        elif "layer" in options and "layer" not in own and "layers" in own:
            options.setdefault("layers", options.pop("layer"))
        return draw(*args, **options)

    return checked


def one_layer(layers: str | Sequence[str] | None) -> str | None:
    """Return the only one of some layers.

    Raises
    ------
    InputError
        There are several.
    """
    if layers is None or isinstance(layers, str):
        return layers
    if len(layers) != 1:
        raise InputError(
            f"layers={list(layers)!r} is not one layer; per_layer(..., layers=...) draws several"
        )
    return layers[0]
