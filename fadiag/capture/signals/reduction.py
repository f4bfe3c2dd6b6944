"""Choose how much of each signal is stored: every value, or a factor of its matrix.

All reductions have the same signature, so callers can use any of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from fadiag.capture.signals.factors import Factors
from fadiag.capture.signals.layer_signals import SignalArray, SignalTensor
from fadiag.capture.signals.raw import Raw
from fadiag.capture.signals.samples import Rows, SampleSubset
from fadiag.errors import InputError
from fadiag.store import UNFOLDINGS, Unfolding

__all__ = ["RAW_BYTES", "Auto", "Reduction", "ReductionName", "reduction_of"]

ReductionName = Literal["auto", "raw", "factor"]

#: The largest size of a record in bytes for which reduction "auto" stores all values.
RAW_BYTES = 64 * 2**20


class Reduction(Protocol):
    """Reduces the signals of one call of a layer to the arrays that are stored.

    ``samples`` chooses the samples.
    """

    samples: SampleSubset

    def __call__(
        self, layer: str, signals: Mapping[str, Sequence[SignalTensor]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return the arrays of one call of a layer.

        Parameters
        ----------
        layer : str
        signals : mapping of str to sequence of SignalTensor
            Each signal as a list of micro-batches.
        batch : int
            The number of samples in the step's batch.
        """


class Auto:
    """The reduction that stores every value if the records are small, and factors otherwise.

    The first record decides for the whole run.

    Parameters
    ----------
    unfolding : {"samples", "channels"}
        The rows of the matrix if the signal has positions: whole samples, or single positions.
    rows : int or Subset, optional
        The samples to store; all by default.
    """

    def __init__(self, unfolding: Unfolding, rows: Rows = None) -> None:
        self._raw, self._factors = Raw(rows), Factors(unfolding, rows)
        self._chosen: Reduction | None = None
        self.samples = self._factors.samples = self._raw.samples

    def choose(self, layers: Iterable[Mapping[str, Sequence[SignalTensor]]], batch: int) -> None:
        """Choose by the size of the first record with all layers."""
        if self._chosen is None:
            share = self.samples.recorded_of(batch) / max(1, batch)
            sizes = (
                part.values.numel() * max(4, part.values.element_size()) * (share if part.per_sample else 1)
                for signals in layers
                for parts in signals.values()
                for part in parts
            )
            self.adopt("raw" if sum(sizes) <= RAW_BYTES else "factor")

    def adopt(self, name: Literal["raw", "factor"]) -> None:
        """Use the given reduction, as an earlier session did."""
        self._chosen = self._raw if name == "raw" else self._factors

    def __call__(
        self, layer: str, signals: Mapping[str, Sequence[SignalTensor]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return the arrays of one call of a layer, as `choose` decided."""
        assert self._chosen is not None
        return self._chosen(layer, signals, batch)


def reduction_of(name: ReductionName, unfolding: Unfolding, rows: Rows) -> Reduction:
    """Return a reduction by its name.

    Raises
    ------
    InputError
        The reduction or unfolding is unknown, or ``rows`` is invalid.
    """
    if name not in ("auto", "raw", "factor"):
        raise InputError(f"reduction is {name!r}; it is 'auto', 'raw' or 'factor'")
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it is 'samples' or 'channels'")
    if name == "auto":
        return Auto(unfolding, rows)
    return Raw(rows) if name == "raw" else Factors(unfolding, rows)
