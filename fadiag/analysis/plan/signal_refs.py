"""Signals of other layers and other steps, by name: ``above/error``, ``first/activation``.

A metric names what it reads; the plan finds it:

========================  ==========================================================================
``above/<signal>``        of the next layer in forward order
``above*/<signal>``       of every layer above: ``above/``, ``above2/``, ``above3/``, ... in the view
``below/<signal>``        of the layer before
``first/<signal>``        the stream's first record of it, the same for all steps
``recent/<signal>``       the last `WINDOW` records up to each step, as an axis ``window`` after the step
========================  ==========================================================================

Which layer feeds which is not recorded. Layers are taken for a chain only where their weights are matrices
that fit each other from the first to the last, and every signal is one vector a sample. A skip connection is
not seen. There is no chain where the recorder left layers out, where layers see other samples, or where a
weight is kept as (in, out).
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import WINDOW
from fadiag.analysis.plan.runs import Run, Stream

__all__ = ["Owner", "chain_of", "expand", "first_record", "owner_of", "recent_records"]


class Owner(NamedTuple):
    """The layer that a signal belongs to (None: there is none), and the signal's name there."""

    layer: str | None
    signal: str


def chain_of(run: Run, stream: Stream) -> tuple[str, ...]:
    """Return the layers from the first to the last where they form a chain of matrices, else nothing."""
    names = tuple(stream.layers)
    if not _is_whole(stream) or stream.own_rows:
        return ()
    state = next((s for s in run.streams.values() if s.kind == "state"), None)
    shapes = []
    for name in names:
        own = {} if state is None else state.layers.get(name, {})
        weight = own.get("weight", run.static.get(name, {}).get("weight_init"))
        if weight is None:
            return ()
        shape = weight.shape[1:] if "step" in weight.dims else weight.shape
        if len(shape) != 2 or weight.dims[-2:] == ("in", "out"):  # a table, or kept transposed
            return ()
        if any("sample" in a.dims and a.ndim > 3 for a in stream.layers[name].values()):
            return ()
        shapes.append(shape)
    fits = all(above[1] == below[0] for below, above in pairwise(shapes))
    return names if fits else ()


def _is_whole(stream: Stream) -> bool:
    """Tell whether all layers were recorded; a store that does not count them is taken for whole."""
    attrs = stream.layer_attrs.values()
    count = max((int(a.get("layers_in_model", 0)) for a in attrs), default=0)
    return count <= len(stream.layers)


def owner_of(chain: tuple[str, ...], layer: str, place: int, signal: str) -> Owner:
    """Return whose signal is named by a layer at a place of the chain; a plain name is the layer's own."""
    prefix, _, rest = signal.partition("/")
    if prefix == "below":
        place -= 1
    elif prefix == "above":
        place += 1
    elif prefix.startswith("above") and prefix[5:].isdigit():
        place += int(prefix[5:])
    else:
        return Owner(layer, signal)
    return Owner(chain[place] if 0 <= place < len(chain) else None, rest)


def expand(count: int, signals: Iterable[str]) -> tuple[str, ...]:
    """Write ``above*/x`` out for the `count` layers above; at least the next one is asked for."""
    found: list[str] = []
    for signal in signals:
        prefix, _, rest = signal.partition("/")
        if prefix == "above*":
            found += [f"above{i if i > 1 else ''}/{rest}" for i in range(1, max(1, count) + 1)]
        else:
            found.append(signal)
    return tuple(found)


def first_record(array: xr.DataArray) -> xr.DataArray:
    """Return the first record of a signal, without a step axis."""
    return array.isel(step=int(array.attrs.get("declared_at", 0)))


def recent_records(
    array: xr.DataArray, rows_valid: NDArray[np.int64] | None
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return which records (step, window) each step takes together, and a mask of where they cannot be.

    They are too few, or, of samples, not of as many.
    """
    at = np.arange(array.sizes["step"])[:, None] - np.arange(WINDOW)[::-1]
    short = at[:, 0] < int(array.attrs.get("declared_at", 0))
    at = at.clip(0)
    if "sample" in array.dims and rows_valid is not None:
        short = short | np.any(rows_valid[at] != rows_valid[at[:, -1:]], axis=-1)
    return at, short
