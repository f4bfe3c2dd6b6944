"""Name the axes of recorded signals."""

import math

from torch import Tensor

__all__ = ["dims_of", "dims_of_input"]

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def dims_of(
    shape: tuple[int, ...], weight: Tensor, own: tuple[int, ...], prefix: str, *, moved: bool = False
) -> tuple[str, ...]:
    """Return the axis names of a signal at a layer's output, norm or gate.

    A signal with the shape of the layer's output has the names of the output's axes. If a pool, a reshape or
    a permutation has changed the shape, the axes get different names, because within a layer a name has one
    length. The first axis is still ``sample`` if it is as long as the output's first axis. The axis of the
    layer's units is ``<prefix>_channel`` if it can be identified with certainty.

    Parameters
    ----------
    shape : tuple of int
        The shape of the signal.
    weight : Tensor
        The weight of the layer.
    own : tuple of int
        The shape of the layer's output.
    prefix : str
        The prefix of the names that differ from those of the output.
    moved : bool
        Whether axes were permuted between the output and the signal.

    Examples
    --------
    >>> import torch
    >>> kernel = torch.empty(8, 3, 5, 5)
    >>> dims_of((32, 8, 10, 10), kernel, (32, 8, 10, 10), "h")
    ('sample', 'channel', 'height', 'width')
    >>> dims_of((32, 8, 5, 5), kernel, (32, 8, 10, 10), "h")
    ('sample', 'h_channel', 'h_2', 'h_3')
    """
    names = _dims_of_output(own, weight)
    if shape == own and not moved:
        return names
    dims = [f"{prefix}_{i}" for i in range(len(shape))]
    if len(own) > 1 and shape[:1] == own[:1]:
        dims[0] = "sample"
        channel = _channel_of(shape, own, names.index("out" if "out" in names else "channel"), moved=moved)
        if channel is not None:
            dims[channel] = f"{prefix}_channel"
    return tuple(dims)


def dims_of_input(count: int, weight: Tensor) -> tuple[str, ...]:
    """Return the axis names of a layer's input.

    Except ``sample``, they differ from the names of the output's axes, because the lengths may differ.

    Parameters
    ----------
    count : int
        The number of axes.
    weight : Tensor
        The weight of the layer.
    """
    if count == 2:
        return ("sample", "in")
    names = ["sample", *(f"input_{i}" for i in range(1, count))]
    if count > 1 and (weight.dim() == 2 or weight.dim() == count):
        names[-1 if weight.dim() == 2 else 1] = "input_channel"
    return tuple(names)


def _dims_of_output(shape: tuple[int, ...], weight: Tensor) -> tuple[str, ...]:
    if weight.dim() > 2 and len(shape) == weight.dim():
        return ("sample", "channel", *_SPACE[len(shape) - 2])
    if len(shape) == 1:
        return ("out",)
    between = len(shape) - 2
    return ("sample", *("position" if between == 1 else f"position_{i}" for i in range(between)), "out")


def _channel_of(shape: tuple[int, ...], own: tuple[int, ...], at: int, *, moved: bool) -> int | None:
    """Return the axis of a signal that matches axis ``at`` of the output; None if that is uncertain."""
    if not moved:
        # A pool preserves the axes before the positions. A reshape preserves the order of the other axes.
        if at == len(own) - 1:
            return len(shape) - 1 if shape[-1] == own[-1] else None
        return at if shape[: at + 1] == own[: at + 1] else None
    alike = [i for i in range(1, len(shape)) if shape[i] == own[at]]
    unique = own[1:].count(own[at]) == len(alike) == 1
    return alike[0] if unique and math.prod(shape) == math.prod(own) else None
