"""Choose how much of a signal is stored: every value, or a factor of its matrix.

Both reductions have the same signature, so their callers need not know which one they hold.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from fadiag.capture.signals.factors import Factors
from fadiag.capture.signals.layer_signals import SignalArray, SignalTensor
from fadiag.capture.signals.raw import Raw
from fadiag.capture.signals.samples import Rows, SampleSubset
from fadiag.errors import InputError
from fadiag.store import UNFOLDINGS, Unfolding

__all__ = ["Reduction", "ReductionName", "reduction_of"]

ReductionName = Literal["raw", "factor"]


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


def reduction_of(name: ReductionName, unfolding: Unfolding, rows: Rows) -> Reduction:
    """Return a reduction by its name.

    Raises
    ------
    InputError
        An unknown reduction or unfolding, or an invalid ``rows``.
    """
    if name not in ("raw", "factor"):
        raise InputError(f"reduction is {name!r}; it is 'raw' or 'factor'")
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it is 'samples' or 'channels'")
    return Raw(rows) if name == "raw" else Factors(unfolding, rows)
