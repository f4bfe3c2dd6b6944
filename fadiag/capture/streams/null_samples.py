"""Take the samples that a null is computed from, and unfold them like the signals beside it."""

from collections.abc import Callable
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
    """The chosen samples of a batch, and their unfolding.

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
        """Return how many samples of a call the store has room for."""
        indices = self.indices(call)
        return self.subset.capacity_of(call.name, "error") if len(call.a_shape) > 1 else len(indices)

    def take(self, call: Call, error: Tensor) -> Tensor:
        """Return the chosen samples of an error in the shape of the call's own."""
        indices = self.indices(call)
        return error if len(indices) == len(error) else error[indices.to(error.device)]

    def matrix(self, call: Call, error: Tensor) -> Array:
        """Unfold samples of a call's error to a matrix, in float64."""
        axis = self._column_axis(_dims(call, call.a_shape))
        rows = rows_of(error) if axis is None else error.movedim(axis, -1).flatten(0, -2).double()
        return rows.cpu().numpy()

    def can_draw_modulator(self, call: Call) -> bool:
        """Return whether the axis of the columns is known in a call's modulator."""
        dims = _dims(call, call.h_shape, moved=call.moved)
        return self.unfolding == "samples" or len(dims) < 3 or channel_of(dims) is not None

    def draw_modulator(self, call: Call, samples: int, draw: Callable[[int, int], Tensor]) -> Tensor:
        """Draw samples of a call's modulator.

        Parameters
        ----------
        call : Call
        samples : int
        draw : callable
            ``draw(rows, columns)`` returns the unfolded matrix.
        """
        shape = (samples, *call.h_shape[1:])
        axis = self._column_axis(_dims(call, call.h_shape, moved=call.moved))
        if axis is None:
            return draw(samples, call.h_shape[1:].numel()).reshape(shape)
        rows = (*shape[:axis], *shape[axis + 1 :])
        return draw(torch.Size(rows).numel(), shape[axis]).reshape(*rows, -1).movedim(-1, axis)

    def attrs(self, statistic: str, call: Call, k: int) -> dict[str, str | int]:
        """Return the attributes of a null's statistic.

        Parameters
        ----------
        statistic : str
            Its name in `fadiag.signals.NULLS`.
        call : Call
        k : int
            The dimension of the subspaces of an overlap.
        """
        attrs: dict[str, str | int] = {"samples": self.capacity(call)}
        if statistic != "cosine":  # a cosine compares samples, not rows of an unfolding
            attrs["unfolding"] = self.unfolding if len(call.a_shape) > 2 else "both"
        if statistic == "overlap":
            attrs["k"] = k
        return attrs

    def _column_axis(self, dims: tuple[str, ...]) -> int | None:
        """Return the axis of the columns; None if each row is a whole sample."""
        if self.unfolding == "samples" or len(dims) < 3:
            return None
        return dims.index(str(channel_of(dims)))


def _dims(call: Call, shape: torch.Size, *, moved: bool = False) -> tuple[str, ...]:
    return dims_of(tuple(shape), call.layer.weight, tuple(call.a_shape), "h", moved=moved)
