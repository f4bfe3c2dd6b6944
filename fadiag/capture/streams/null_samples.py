"""Which samples a null is of, and what the rows of their matrix are: the same as of the signals beside it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fadiag.capture.signals.arrays import Array, dims_of, rows_of
from fadiag.capture.signals.samples import SampleSubset
from fadiag.capture.tracing.layer_call import Call
from fadiag.store import Unfolding, channel_of

__all__ = ["SampleSelection"]


@dataclass(frozen=True)
class SampleSelection:
    """The samples that are kept of a batch of so many, and their unfolding."""

    chosen: SampleSubset
    unfolding: Unfolding
    batch: int

    def places(self, call: Call) -> Tensor:
        """Return which samples of a call's error are kept."""
        every = torch.arange(call.a_shape[:1].numel())
        if len(call.a_shape) < 2:  # no axis of samples
            return every
        return self.chosen.take(call.name, "error", [every], self.batch)[0]

    def count(self, call: Call) -> int:
        """Return how many they are; where that changes from batch to batch, how many there is room for."""
        places = self.places(call)
        return self.chosen.count(call.name, "error") if len(call.a_shape) > 1 else len(places)

    def take(self, call: Call, error: Tensor) -> Tensor:
        """Take the samples that are kept out of a call's error, or of one in its place."""
        places = self.places(call)
        return error if len(places) == len(error) else error[places.to(error.device)]

    def matrix(self, call: Call, error: Tensor) -> Array:
        """Lay samples of a call's error out as a matrix, in float64."""
        axis = self._channels(_dims(call, call.a_shape))
        rows = rows_of(error) if axis is None else error.movedim(axis, -1).flatten(0, -2).double()
        return rows.cpu().numpy()

    def draws(self, call: Call) -> bool:
        """Tell whether a call's modulator can be drawn: not where its axis of channels is not certain."""
        dims = _dims(call, call.h_shape, moved=call.moved)
        return self.unfolding == "samples" or len(dims) < 3 or channel_of(dims) is not None

    def modulator(self, call: Call, samples: int, draw: Callable[[int, int], Tensor]) -> Tensor:
        """Return so many samples of a call's modulator, whose matrix (rows, columns) is drawn."""
        shape = (samples, *call.h_shape[1:])
        axis = self._channels(_dims(call, call.h_shape, moved=call.moved))
        if axis is None:
            return draw(samples, call.h_shape[1:].numel()).reshape(shape)
        rows = (*shape[:axis], *shape[axis + 1 :])
        return draw(torch.Size(rows).numel(), shape[axis]).reshape(*rows, -1).movedim(-1, axis)

    def attrs(self, name: str, call: Call, k: int) -> dict[str, str | int]:
        """Return of which samples, matrices and subspaces a statistic is, by its name."""
        attrs: dict[str, str | int] = {"samples": self.count(call)}
        if not name.endswith("cosine"):  # which is of samples; without positions there is one unfolding
            attrs["unfolding"] = self.unfolding if len(call.a_shape) > 2 else "both"
        if name.endswith("overlap"):
            attrs["k"] = k
        return attrs

    def _channels(self, dims: tuple[str, ...]) -> int | None:
        """Return which axis the columns are; None where a row is a whole sample."""
        if self.unfolding == "samples" or len(dims) < 3:
            return None
        return dims.index(str(channel_of(dims)))


def _dims(call: Call, shape: torch.Size, *, moved: bool = False) -> tuple[str, ...]:
    return dims_of(tuple(shape), call.layer.weight, tuple(call.a_shape), "h", moved=moved)
