"""From tensors to the arrays that the store takes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["HALF", "Array", "dims_of", "rows_of", "to_array", "to_arrays"]

Array = NDArray[Any]

#: Precisions that the store does not know, or that would lose what arithmetic adds: kept as float32.
HALF = frozenset({torch.float16, torch.bfloat16})

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def to_array(tensor: Tensor) -> Array:
    """Return the tensor as an array that the store may keep; see `to_arrays`."""
    return to_arrays([tensor])[0]


def to_arrays(tensors: Sequence[Tensor]) -> list[Array]:
    """Return tensors as arrays that the store may keep: half precision as float32 (it has no bfloat16).

    On the CPU the two share memory: give tensors that nobody writes to any more. From a CUDA device all are
    copied side by side into pinned memory, which torch keeps and lends again, and waited for once.
    """
    kept = [t.detach().float() if t.dtype in HALF else t.detach() for t in tensors]
    hosts = [
        torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True)
        if t.is_cuda
        else t.cpu()
        for t in kept
    ]
    for device in {t.device for t in kept if t.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return [np.ascontiguousarray(host.numpy()) for host in hosts]


def rows_of(signal: Tensor) -> Tensor:
    """Unfold a signal to one row a sample, in float64."""
    return (signal.flatten(1) if signal.dim() > 1 else signal.unsqueeze(1)).double()


def dims_of(
    shape: tuple[int, ...], weight: Tensor, own: tuple[int, ...], prefix: str, *, moved: bool = False
) -> tuple[str, ...]:
    """Name the axes of a signal.

    A signal in the shape of the layer's output has that output's names; another one (a pool, a reshape or a
    permutation stood between) has names of its own, for a name has one length in a layer. There the axis of
    the layer's units is ``<prefix>_channel``, where that is certain, and the first is ``sample`` where it has
    the output's length.

    Parameters
    ----------
    shape : tuple of int
    weight : Tensor
        The layer's.
    own : tuple of int
        The shape of the layer's output.
    prefix : str
    moved : bool
        Axes were permuted between the output and the signal.
    """
    names = _dims_of_output(own, weight)
    if shape == own and not moved:
        return names
    found = [f"{prefix}_{i}" for i in range(len(shape))]
    if len(own) > 1 and shape[:1] == own[:1]:
        found[0] = "sample"
        channel = _channel_of(shape, own, names.index("out" if "out" in names else "channel"), moved=moved)
        if channel is not None:
            found[channel] = f"{prefix}_channel"
    return tuple(found)


def _dims_of_output(shape: tuple[int, ...], weight: Tensor) -> tuple[str, ...]:
    if weight.dim() > 2 and len(shape) == weight.dim():
        return ("sample", "channel", *_SPACE[len(shape) - 2])
    if len(shape) == 1:
        return ("out",)
    between = len(shape) - 2
    return ("sample", *("position" if between == 1 else f"position_{i}" for i in range(between)), "out")


def _channel_of(shape: tuple[int, ...], own: tuple[int, ...], at: int, *, moved: bool) -> int | None:
    """Return where the axis ``at`` of a layer's output is in a signal; None where it is not certain."""
    if not moved:
        # Pools leave the axes before the positions as they are, reshapes in order what they do not touch.
        if at == len(own) - 1:
            return len(shape) - 1 if shape[-1] == own[-1] else None
        return at if shape[: at + 1] == own[: at + 1] else None
    alike = [i for i in range(1, len(shape)) if shape[i] == own[at]]
    alone = own[1:].count(own[at]) == len(alike) == 1
    return alike[0] if alone and math.prod(shape) == math.prod(own) else None
