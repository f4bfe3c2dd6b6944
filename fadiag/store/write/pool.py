"""Buffers that go round: lent to the caller, written, lent again."""

import math
import threading
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BufferPool"]


class BufferPool:
    """Lend arrays and take them back; keeps at most `limit` bytes lying about."""

    def __init__(self, limit: int) -> None:
        self._limit, self._idle = limit, 0
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self._lent: weakref.WeakValueDictionary[int, NDArray[np.uint8]] = weakref.WeakValueDictionary()
        self._mutex = threading.Lock()

    def lend(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array whose contents are arbitrary."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._mutex:
            free = self._free[size]
            raw = free.pop() if free else None
            if raw is None:
                raw = np.empty(size, np.uint8)
            else:
                self._idle -= size
            self._lent[id(raw)] = raw
        return raw.view(dtype).reshape(shape)

    def take_back(self, array: NDArray[Any]) -> None:
        """Take a lent array back; any other array is left alone."""
        raw: Any = array
        while isinstance(raw, np.ndarray) and raw.base is not None:
            raw = raw.base
        with self._mutex:
            ours = isinstance(raw, np.ndarray) and self._lent.pop(id(raw), None) is raw
            if ours and self._idle + raw.nbytes <= self._limit:
                self._free[raw.nbytes].append(raw)
                self._idle += raw.nbytes
