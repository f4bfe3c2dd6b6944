"""What the axis names of a signal mean, and how many samples of a layer are real."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROW_COUNT_SIGNAL", "UNFOLDINGS", "Unfolding", "channel_of", "rows_of_layer"]

#: What one row of a signal's matrix is: a sample, or one position of a sample.
Unfolding = Literal["samples", "channels"]
UNFOLDINGS: tuple[Unfolding, ...] = ("samples", "channels")

#: The signal that holds a layer's own number of samples in each record. NaN: it is the stream's number.
ROW_COUNT_SIGNAL = "rows"


def channel_of(dims: Sequence[str]) -> str | None:
    """Return the axis of a signal that runs over its layer's units, or None where that is not certain.

    Examples
    --------
    >>> channel_of(("sample", "position", "out")), channel_of(("sample", "h_channel", "h_2"))
    ('out', 'h_channel')
    >>> channel_of(("sample", "h_1", "h_2"))
    """
    return next((dim for dim in dims if dim in ("out", "channel") or dim.endswith("_channel")), None)


def rows_of_layer(own: NDArray[np.floating], stream: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a layer's number of samples in each record: its own, or the stream's where its own is NaN.

    Examples
    --------
    >>> rows_of_layer(np.array([np.nan, 3.0]), np.array([8, 8]))
    array([8, 3])
    """
    return np.where(np.isnan(own), stream, np.nan_to_num(own)).astype(np.int64)
