"""Find the unit axis of a signal and the number of valid samples of a layer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROW_COUNT_SIGNAL", "UNFOLDINGS", "Unfolding", "channel_of", "rows_of_layer"]

#: The meaning of one row of a signal's matrix: a sample, or one position of a sample.
Unfolding = Literal["samples", "channels"]
UNFOLDINGS: tuple[Unfolding, ...] = ("samples", "channels")

#: The signal that holds a layer's own number of samples in each record. NaN means the stream's number.
ROW_COUNT_SIGNAL = "rows"


def channel_of(dims: Sequence[str]) -> str | None:
    """Return the axis of a signal that runs over its layer's units, or None if no axis is certain to.

    Examples
    --------
    >>> channel_of(("sample", "position", "out")), channel_of(("sample", "h_channel", "h_2"))
    ('out', 'h_channel')
    >>> channel_of(("sample", "h_1", "h_2"))
    """
    return next((dim for dim in dims if dim in ("out", "channel") or dim.endswith("_channel")), None)


def rows_of_layer(own: NDArray[np.floating], stream: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a layer's number of samples in each record: its own, or if that is NaN, the stream's.

    Examples
    --------
    >>> rows_of_layer(np.array([np.nan, 3.0]), np.array([8, 8]))
    array([8, 3])
    """
    return np.where(np.isnan(own), stream, np.nan_to_num(own)).astype(np.int64)
