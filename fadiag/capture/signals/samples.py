"""Which samples of a batch are recorded."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fadiag.capture.arguments import whole_number
from fadiag.errors import CaptureWarning, InputError

__all__ = ["Rows", "SampleSubset", "Subset", "capacity", "check_samples", "chosen_samples"]


@dataclass(frozen=True)
class Subset:
    """A random subset of the samples, the same over the whole run.

    Parameters
    ----------
    n : int
        How many, at least 1; all where the batch has no more.
    seed : int

    Examples
    --------
    >>> chosen_samples(Subset(3, seed=1), 6)
    tensor([1, 2, 5])
    """

    n: int
    seed: int = 0


#: All samples (None), the first n, or a subset.
Rows = int | Subset | None


def check_samples(rows: Rows) -> None:
    """Raise InputError where ``rows`` is none of what it can be."""
    count = rows.n if isinstance(rows, Subset) else rows
    if count is not None and whole_number(count, 1) is None:
        raise InputError(f"rows is {rows!r}; give None for all samples, a number of them, or Subset(n, seed)")


def chosen_samples(rows: Rows, samples: int) -> Tensor:
    """Return the places of the chosen samples in a batch, in their order."""
    if isinstance(rows, Subset):
        generator = torch.Generator().manual_seed(int(rows.seed))
        return torch.randperm(samples, generator=generator)[: rows.n].sort().values
    return torch.arange(samples if rows is None else min(rows, samples))


def capacity(count: int, batch: int) -> int:
    """Return for how many samples of a layer there is room, which first saw ``count`` of a batch.

    What saw few may see more later, an expert say. What saw one serves all alike, as a table of positions
    does: a whole batch of its rows would be large, and empty.
    """
    return 1 if count == 1 else max(count, batch)


class SampleSubset:
    """The samples of each signal, settled at its first batch: later batches give the same, or fewer.

    A layer may see other samples than the batch's, and other numbers of them from step to step (an expert's).
    There is room for those of its first step, and for a whole batch (`capacity`).
    """

    def __init__(self, rows: Rows) -> None:
        check_samples(rows)
        self._rows = rows
        self._places: dict[tuple[str, str], Tensor] = {}
        self._told = False

    def settle(self, rooms: Mapping[tuple[str, str], int]) -> None:
        """Give signals, by layer and name, the room that they had in the session before.

        What is told of its samples' norms or cosines tells it of the signal.
        """
        for (layer, signal), room in rooms.items():
            for name in (signal, signal.removesuffix("_norm"), signal.removesuffix("_cosine")):
                self._places.setdefault((layer, name), torch.arange(room))

    def take(self, layer: str, signal: str, parts: Sequence[Tensor], batch: int = 0) -> list[Tensor]:
        """Take the samples out of the micro-batches of a step, which are counted through.

        Micro-batches without any are left out, all but one where none has any. ``batch`` is the number of
        samples of the step's batch.
        """
        key, count = (layer, signal), sum(len(part) for part in parts)
        if key not in self._places:
            self._places[key] = chosen_samples(self._rows, capacity(count, batch))
        places, taken, start = self._places[key], [], 0
        if not isinstance(self._rows, Subset):
            wanted = count if self._rows is None else min(count, self._rows)
            if wanted > len(places):
                self._tell(layer, wanted, len(places))
            elif wanted == count:
                return [part for part in parts if len(part)] or list(parts[:1])
        for part in parts:
            inside = places[(places >= start) & (places < start + len(part))] - start
            taken.append(part if len(inside) == len(part) else part[inside.to(part.device)])
            start += len(part)
        return [part for part in taken if len(part)] or taken[:1]

    def count(self, layer: str, signal: str) -> int:
        """Return for how many samples there is room."""
        return len(self._places[layer, signal])

    def _tell(self, layer: str, wanted: int, room: int) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"layer {layer!r} has {wanted} samples in one step, and room for the {room} of the first "
                f"that was recorded, so {wanted - room} are left out: there, and wherever else a step has "
                "more than the first. Begin with the largest batch, or take fewer of each by rows=",
                CaptureWarning,
                stacklevel=2,
            )
