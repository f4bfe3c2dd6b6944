"""Which samples of a batch are recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fadiag.capture.arguments import whole_number
from fadiag.errors import InputError

__all__ = ["Chosen", "Rows", "Subset", "check_rows", "chosen_rows"]


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
    >>> chosen_rows(Subset(3, seed=1), 6)
    tensor([1, 2, 5])
    """

    n: int
    seed: int = 0


#: All samples (None), the first n, or a subset.
Rows = int | Subset | None


def check_rows(rows: Rows) -> None:
    """Raise InputError where ``rows`` is none of what it can be."""
    count = rows.n if isinstance(rows, Subset) else rows
    if count is not None and whole_number(count, 1) is None:
        raise InputError(f"rows is {rows!r}; give None for all samples, a number of them, or Subset(n, seed)")


def chosen_rows(rows: Rows, samples: int) -> Tensor:
    """Return the places of the chosen samples in a batch, in their order."""
    if isinstance(rows, Subset):
        generator = torch.Generator().manual_seed(int(rows.seed))
        return torch.randperm(samples, generator=generator)[: rows.n].sort().values
    return torch.arange(samples if rows is None else min(rows, samples))


class Chosen:
    """The samples of each signal, settled at its first batch: later batches give the same, or fewer."""

    def __init__(self, rows: Rows) -> None:
        check_rows(rows)
        self._rows = rows
        self._places: dict[tuple[str, str], Tensor] = {}

    def take(self, layer: str, signal: str, parts: Sequence[Tensor]) -> list[Tensor]:
        """Take the samples out of the micro-batches of a step, which are counted through.

        Micro-batches without any are left out, all but one where none has any.
        """
        key = (layer, signal)
        if key not in self._places:
            self._places[key] = chosen_rows(self._rows, sum(len(part) for part in parts))
        places, taken, start = self._places[key], [], 0
        for part in parts:
            inside = places[(places >= start) & (places < start + len(part))] - start
            taken.append(part if len(inside) == len(part) else part[inside.to(part.device)])
            start += len(part)
        return [part for part in taken if len(part)] or taken[:1]

    def count(self, layer: str, signal: str) -> int:
        """Return how many samples the first batch gave."""
        return len(self._places[layer, signal])
