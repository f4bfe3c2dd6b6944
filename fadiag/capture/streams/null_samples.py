"""SampleSelection takes the samples for a null and unfolds them as the recorded signals are unfolded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fadiag.capture.signals.arrays import Array, rows_of
from fadiag.capture.signals.axes import dims_of
from fadiag.capture.signals.samples import SampleSubset
from fadiag.capture.tracing.layer_call import Call
from fadiag.store import Unfolding, channel_of

__all__ = ["SampleSelection"]


@dataclass(frozen=True)
class SampleSelection:
    """Takes the chosen samples of a batch and unfolds them to a matrix.

    Parameters
    ----------
    subset : SampleSubset
    unfolding : {"samples", "channels"}
    batch : int
        The number of samples in the batch.
    """

    subset: SampleSubset
    unfolding: Unfolding
    batch: int

    def indices(self, call: Call) -> Tensor:
        """Return the indices of the chosen samples in a call's error."""
        every = torch.arange(call.a_shape[:1].numel(), device="cpu")
        if len(call.a_shape) < 2:  # no axis of samples
            return every
        return self.subset.take(call.name, "error", [every], self.batch)[0]

    def capacity(self, call: Call) -> int:
        """Return how many samples of a call fit in the store."""
        indices = self.indices(call)
        return self.subset.capacity_of(call.name, "error") if len(call.a_shape) > 1 else len(indices)

    def take(self, call: Call, error: Tensor) -> Tensor:
        """Return the chosen samples of an error; the other axes stay."""
        indices = self.indices(call)
        return error if len(indices) == len(error) else error[indices.to(error.device)]

    def matrix(self, call: Call, error: Tensor) -> Array:
        """Unfold the samples of a call's error to a matrix in float64."""
        axis = self._column_axis(_dims(call))
        rows = rows_of(error) if axis is None else error.movedim(axis, -1).flatten(0, -2).double()
        return rows.cpu().numpy()

    def spectrum_length(self, call: Call) -> int:
        """Return how many singular values the store holds for a call's error."""
        shape = call.a_shape
        axis = self._column_axis(_dims(call))
        columns = shape[1:].numel() if axis is None else shape[axis]
        positions = shape[1:].numel() // max(1, columns)
        return min(self.capacity(call) * positions, columns)

    def attrs(self, statistic: str, call: Call, k: int) -> dict[str, str | int]:
        """Return the stored attributes of one statistic of a null.

        Parameters
        ----------
        statistic : str
            Its name in `fadiag.signals.NULLS`.
        call : Call
        k : int
            The dimension of the subspaces in an overlap.
        """
        attrs: dict[str, str | int] = {"samples": self.capacity(call)}
        if statistic != "cosine":  # a cosine compares whole samples
            attrs["unfolding"] = self.unfolding if len(call.a_shape) > 2 else "both"
        if statistic == "overlap":
            attrs["k"] = k
        return attrs

    def _column_axis(self, dims: tuple[str, ...]) -> int | None:
        """Return the axis of the columns; None if each row is a whole sample."""
        if self.unfolding == "samples" or len(dims) < 3:
            return None
        return dims.index(str(channel_of(dims)))


def _dims(call: Call) -> tuple[str, ...]:
    return dims_of(tuple(call.a_shape), call.layer.weight, tuple(call.a_shape), "a")
