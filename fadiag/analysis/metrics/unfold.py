"""Turn a recorded signal into the matrix whose spectrum is measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.errors import InputError
from fadiag.store import UNFOLDINGS, Unfolding, channel_of

__all__ = ["center", "unfold"]


def unfold(
    values: NDArray[Any],
    dims: Sequence[str],
    unfolding: Unfolding = "samples",
    *,
    rows_valid: int | None = None,
    what: str = "a signal",
) -> NDArray[Any]:
    """Return a signal as one matrix per step.

    Parameters
    ----------
    values : array
        The recorded signal, of shape ``(step, *dims)``.
    dims : sequence of str
        Names of the axes after the step. If the first is ``sample``, the rows are samples. If it is
        ``factor``, they are the rows of a QR factor. Otherwise the signal is a weight, and rows are outputs.
    unfolding : {"samples", "channels"}
        The rows and columns of a signal with more than two axes: ``samples`` gives (N, C·H·W), ``channels``
        gives (N·H·W, C).
    rows_valid : int, optional
        Number of real samples. The others are padding and are dropped.
    what : str
        Name of the signal in errors.

    Returns
    -------
    array
        Of shape (step, rows, columns).

    Examples
    --------
    >>> x = np.arange(24.0).reshape(1, 2, 3, 2, 2)
    >>> unfold(x, ("sample", "channel", "height", "width")).shape
    (1, 2, 12)
    >>> unfold(x, ("sample", "channel", "height", "width"), "channels").shape
    (1, 8, 3)
    """
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it must be one of {', '.join(UNFOLDINGS)}")
    if len(dims) < 2:
        raise InputError(f"a signal with the dimensions {tuple(dims)} is no matrix")
    if dims[0] == "sample" and rows_valid is not None:
        values = values[:, :rows_valid]
    steps, rows = values.shape[:2]
    if values.ndim == 3:
        return values
    if dims[0] == "sample" and unfolding == "channels":
        channel = channel_of(dims)
        if channel is None:
            raise InputError(
                f"the channel axis of {what} is not known: its axes are {tuple(dims)}; analyze with "
                "unfolding='samples', or with metrics=[...] of other signals"
            )
        moved = np.moveaxis(values, 1 + dims.index(channel), -1)
        return moved.reshape(steps, -1, moved.shape[-1])
    return values.reshape(steps, rows, -1)


def center(matrix: NDArray[Any], *, factor: bool = False) -> NDArray[Any]:
    """Remove the mean row, in float64. In a factor the first row holds the mean, so drop that row."""
    if factor and matrix.shape[-2] > 1:
        return matrix[..., 1:, :]
    return np.zeros_like(matrix) if factor else spectra.centered(matrix)  # one sample is its own mean
