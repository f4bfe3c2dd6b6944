"""Compile loops for which numpy would read memory several times; import this module only on first use."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["products"]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, and cache the result on disk if a cache folder is writable.

    numba tries ``__pycache__`` next to the source, then the user's cache folder. If both are read-only, it
    raises an error, and the function is compiled again in each process.
    """
    # Sums may be reordered to use vector registers. NaN and infinities are still handled.
    freedom = {"reassoc", "contract"}
    try:
        return numba.njit(cache=True, nogil=True, fastmath=freedom)(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath=freedom)(function)


@_compiled
def products(x: Any, y: Any) -> Any:
    """Return ⟨x_i, y_i⟩, |x_i|² and |y_i|² of the rows of two matrices, reading each once."""
    rows, columns = x.shape
    out = np.empty((3, rows))
    for i in range(rows):
        xy = 0.0
        xx = 0.0
        yy = 0.0
        for j in range(columns):
            a = np.float64(x[i, j])
            b = np.float64(y[i, j])
            xy += a * b
            xx += a * a
            yy += b * b
        out[0, i] = xy
        out[1, i] = xx
        out[2, i] = yy
    return out
