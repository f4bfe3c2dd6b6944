"""Choose which samples of a batch are recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fadiag.capture.arguments import whole_number
from fadiag.capture.warn import warn_user
from fadiag.errors import InputError
from fadiag.signals import signal_of

__all__ = ["Rows", "SampleSubset", "Subset", "check_rows", "chosen_samples"]


@dataclass(frozen=True)
class Subset:
    """A random subset of the samples, the same during the whole run.

    Parameters
    ----------
    n : int
        The number of samples, at least 1. A smaller batch is recorded completely.
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


def check_rows(rows: Rows) -> None:
    """Raise InputError if ``rows`` is not None, a positive whole number or a subset."""
    count = rows.n if isinstance(rows, Subset) else rows
    if count is not None and whole_number(count, 1) is None:
        raise InputError(f"rows is {rows!r}; give None for all samples, a number of them, or Subset(n, seed)")


def chosen_samples(rows: Rows, samples: int) -> Tensor:
    """Return the indices of the chosen samples in a batch, in ascending order."""
    if isinstance(rows, Subset):
        generator = torch.Generator().manual_seed(int(rows.seed))
        return torch.randperm(samples, generator=generator, device="cpu")[: rows.n].sort().values
    return torch.arange(samples if rows is None else min(rows, samples), device="cpu")


class SampleSubset:
    """Chooses the samples of each signal at its first batch; later batches have the same samples or fewer.

    The number of samples that a layer sees may change from step to step. For example, an expert may see one
    sample in its first step and the whole batch in a later one. So there is always room for the whole batch.

    Parameters
    ----------
    rows : int or Subset, optional
        The samples to choose; all by default.

    Attributes
    ----------
    tables : set of str
        The layers with one row for the whole batch, such as position embeddings. They need no more room.
    """

    def __init__(self, rows: Rows) -> None:
        check_rows(rows)
        self.tables: set[str] = set()
        self._rows = rows
        self._first_batch = 0
        self._indices: dict[tuple[str, str], Tensor] = {}
        self._warned = False

    def restore(self, capacities: Mapping[tuple[str, str], int]) -> None:
        """Restore the capacities of signals from an earlier session.

        Parameters
        ----------
        capacities : mapping of (str, str) to int
            By layer and stored array. A part of a factor has the capacity of its signal.
        """
        for (layer, array), samples in capacities.items():
            self._first_batch = max(self._first_batch, samples)
            self._indices.setdefault((layer, signal_of(array).name), torch.arange(samples, device="cpu"))

    def recorded_of(self, batch: int) -> int:
        """Return the number of recorded samples at a layer that sees the whole batch."""
        self._first_batch = self._first_batch or batch
        wanted = self._rows.n if isinstance(self._rows, Subset) else self._rows
        return min(batch, self._first_batch, batch if wanted is None else wanted)

    def room_of(self, layer: str) -> int:
        """Return the number of samples for which a layer needs room in the store, if it saw fewer."""
        return 0 if layer in self.tables else self.recorded_of(self._first_batch)

    def take(self, layer: str, signal: str, parts: Sequence[Tensor], batch: int = 0) -> list[Tensor]:
        """Return the chosen samples of each micro-batch of a step.

        The indices count the samples of all micro-batches together. Micro-batches without a chosen sample are
        dropped. If none remains, the first one is returned empty.

        Parameters
        ----------
        layer, signal : str
        parts : sequence of Tensor
            The micro-batches.
        batch : int
            The number of samples in the step's batch.
        """
        key, count = (layer, signal), sum(part.shape[0] for part in parts)
        if key not in self._indices:
            room = count if layer in self.tables else max(count, batch, self._first_batch)
            self._indices[key] = chosen_samples(self._rows, room)
        indices, taken, start = self._indices[key], [], 0
        if not isinstance(self._rows, Subset):
            wanted = count if self._rows is None else min(count, self._rows)
            if wanted > len(indices):
                self._warn(layer, wanted, len(indices))
            elif wanted == count:
                return [part for part in parts if part.shape[0]] or list(parts[:1])
        for part in parts:
            inside = indices[(indices >= start) & (indices < start + len(part))] - start
            taken.append(part if len(inside) == len(part) else part[inside.to(part.device)])
            start += len(part)
        return [part for part in taken if len(part)] or taken[:1]

    def capacity_of(self, layer: str, signal: str) -> int:
        """Return the number of samples for which a signal has room."""
        return len(self._indices[layer, signal])

    def _warn(self, layer: str, wanted: int, room: int) -> None:
        if not self._warned:
            self._warned = True
            warn_user(
                f"layer {layer!r} has {wanted} samples in one step, and room for the {room} of the first "
                f"recorded step, so {wanted - room} are left out. Every larger step loses samples in this "
                "way. Begin with the largest batch, or take fewer of each by rows="
            )
