"""Compiled loops, where numpy would pass over memory several times. Imported and compiled at first use."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["products"]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call, and keep the result on disk where some place is writable.

    numba tries ``__pycache__`` beside the source, then the user's cache folder; where both are read-only it
    refuses, and the function is then compiled anew in each process.
    """
    # Sums may be reordered, so that they run in vector registers; NaN and infinities keep their meaning.
    freedom = {"reassoc", "contract"}
    try:
        return numba.njit(cache=True, nogil=True, fastmath=freedom)(function)
    except RuntimeError:
        return numba.njit(nogil=True, fastmath=freedom)(function)


@_compiled
def products(x: Any, y: Any) -> Any:
    """Return ⟨x_i, y_i⟩, |x_i|² and |y_i|² of the rows of two matrices, each read once."""
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
