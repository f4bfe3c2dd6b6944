"""From tensors to the arrays that the store takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["HALF", "Array", "dims_of", "matrix_of", "rows_of", "to_array", "to_arrays"]

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


def matrix_of(weight: Tensor) -> Tensor:
    """Unfold a kernel to (out, in * kernel); a matrix stays as it is."""
    return weight.reshape(weight.shape[0], -1)


def rows_of(signal: Tensor) -> Tensor:
    """Unfold a signal to one row a sample, in float64."""
    return signal.reshape(signal.shape[0], -1).double()


def dims_of(shape: tuple[int, ...], weight: Tensor, own: tuple[int, ...], prefix: str) -> tuple[str, ...]:
    """Name the axes of a signal.

    A signal in the shape of the layer's output has that output's names; another one (a pool or a reshape
    stood between) has names of its own, for a name has one length in a layer.
    """
    if shape != own:
        return ("sample", *(f"{prefix}_{i}" for i in range(1, len(shape))))
    if weight.dim() > 2 and len(shape) == weight.dim():
        return ("sample", "channel", *_SPACE[len(shape) - 2])
    if len(shape) == 1:
        return ("out",)
    between = len(shape) - 2
    return ("sample", *("position" if between == 1 else f"position_{i}" for i in range(between)), "out")
