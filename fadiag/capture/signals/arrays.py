"""Convert tensors to numpy arrays for the store."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["HALF", "Array", "rows_of", "to_array", "to_arrays"]

Array = NDArray[Any]

#: Dtypes that are stored as float32: numpy has no bfloat16, and arithmetic in half precision loses digits.
HALF = frozenset({torch.float16, torch.bfloat16})


def to_array(tensor: Tensor) -> Array:
    """Return a tensor as an array for the store; see `to_arrays`."""
    return to_arrays([tensor])[0]


def to_arrays(tensors: Sequence[Tensor]) -> list[Array]:
    """Return tensors as arrays for the store; half precision becomes float32.

    A CPU tensor and its array share memory, so nobody may write to the tensor afterwards. All tensors on
    a CUDA device are copied to pinned memory, and then the device is synchronized once. torch reuses that
    memory.
    """
    sources = [t.detach().float() if t.dtype in HALF else t.detach() for t in tensors]
    hosts = [
        torch.empty(t.shape, dtype=t.dtype, device="cpu", pin_memory=True).copy_(t, non_blocking=True)
        if t.is_cuda
        else t.cpu()
        for t in sources
    ]
    for device in {t.device for t in sources if t.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return [np.ascontiguousarray(host.numpy()) for host in hosts]


def rows_of(signal: Tensor) -> Tensor:
    """Unfold a signal to one row per sample, in float64."""
    return (signal.flatten(1) if signal.dim() > 1 else signal.unsqueeze(1)).double()
