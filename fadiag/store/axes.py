"""What the names of a signal's axes say, and how many samples of a layer are real."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROWS", "UNFOLDINGS", "Unfolding", "channel_of", "rows_of_layer"]

#: What the rows of a signal's matrix are: samples, or samples and positions.
Unfolding = Literal["samples", "channels"]
UNFOLDINGS: tuple[Unfolding, ...] = ("samples", "channels")

#: The signal that tells a layer's own number of samples in each record, where it is not the stream's.
ROWS = "rows"


def channel_of(dims: Sequence[str]) -> str | None:
    """Return which axis of a signal is that of its layer's units; None where that is not certain.

    Examples
    --------
    >>> channel_of(("sample", "position", "out")), channel_of(("sample", "h_channel", "h_2"))
    ('out', 'h_channel')
    >>> channel_of(("sample", "h_1", "h_2"))
    """
    return next((dim for dim in dims if dim in ("out", "channel") or dim.endswith("_channel")), None)


def rows_of_layer(told: NDArray[np.floating], valid: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a layer's number of samples in each record: what it tells, or the stream's where that is NaN."""
    return np.where(np.isnan(told), valid, np.nan_to_num(told)).astype(np.int64)
