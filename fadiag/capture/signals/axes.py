"""Name the axes of a signal."""

import math

from torch import Tensor

__all__ = ["dims_of", "dims_of_input"]

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def dims_of(
    shape: tuple[int, ...], weight: Tensor, own: tuple[int, ...], prefix: str, *, moved: bool = False
) -> tuple[str, ...]:
    """Name the axes of a signal.

    A signal in the shape of the layer's output has that output's names. A pool, a reshape or a permutation
    between the two changes the shape. The axes then get names of their own, because a name has one length
    within a layer. The first is still ``sample`` if it is as long as the output's first axis. The axis of the
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
        The beginning of each name that the output does not have.
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
    """Name the axes of a layer's input.

    They never share names with the output's axes, because the two may differ in length.

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
    """Return the axis of a signal that is axis ``at`` of the output; None if that is not certain."""
    if not moved:
        # A pool keeps the axes before the positions. A reshape keeps those that it does not touch in order.
        if at == len(own) - 1:
            return len(shape) - 1 if shape[-1] == own[-1] else None
        return at if shape[: at + 1] == own[: at + 1] else None
    alike = [i for i in range(1, len(shape)) if shape[i] == own[at]]
    unique = own[1:].count(own[at]) == len(alike) == 1
    return alike[0] if unique and math.prod(shape) == math.prod(own) else None
