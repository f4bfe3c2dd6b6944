"""NullDraws collects the spectrum and moments of each draw of a null distribution.

The analysis computes the null of every rank measure from them.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fadiag import spectra
from fadiag.capture.signals.arrays import Array, rows_of
from fadiag.capture.signals.layer_signals import SignalArray
from fadiag.capture.streams.null_samples import SampleSelection
from fadiag.capture.tracing.layer_call import Call
from fadiag.signals import NullSpec
from fadiag.spectra.alignment.spectrum_and_basis import spectrum_and_basis

__all__ = ["NullDraws", "Reference"]


class Reference:
    """Compares errors under redrawn feedback with the true error of one layer.

    Parameters
    ----------
    call : Call
        The layer's call in the true pass.
    selection : SampleSelection
    k : int
        The number of leading directions in the overlap.
    """

    def __init__(self, call: Call, selection: SampleSelection, k: int) -> None:
        error = selection.take(call, call.values["error"])
        matrix = selection.matrix(call, error)
        self.k = k
        self._samples = _by_sample(error, matrix)
        self._count = max(1, min(k, *matrix.shape))
        self._basis = spectra.right_basis(matrix, self._count) if _has_direction(matrix) else None

    def statistics(self, error: Tensor, matrix: Array) -> Mapping[str, Array | float]:
        """Return an error's spectrum, and its cosine and overlap with the true error if that is not zero."""
        if self._basis is None:
            return {"spectrum_raw": spectra.singular_values(matrix)}
        spectrum, basis = spectrum_and_basis(matrix, self._count)
        cosines = spectra.cosine(_by_sample(error, matrix), self._samples)
        valid = cosines[~np.isnan(cosines)]
        return {
            "spectrum_raw": spectrum,
            "cosine": float(valid.mean()) if valid.size else np.nan,
            "overlap": float(spectra.overlap_of_bases(basis, self._basis)),
        }


class NullDraws:
    """Collects the draws of a null for one call of a layer.

    Parameters
    ----------
    null : NullSpec
    call : Call
        The call whose samples are drawn.
    selection : SampleSelection
    count : int
        The number of draws.
    reference : Reference, optional
        Needed for the cosine and the overlap.
    """

    def __init__(
        self,
        null: NullSpec,
        call: Call,
        selection: SampleSelection,
        count: int,
        reference: Reference | None = None,
    ) -> None:
        self.count = count
        self._null, self._call, self._selection, self._reference = null, call, selection, reference
        self._last: Tensor | None = None
        self._values: Mapping[str, Array | float] = {}
        width = selection.spectrum_length(call)
        self._arrays = {
            name: np.full((count, width), np.nan, np.float32)
            if name.startswith("spectrum")
            else np.full(count, np.nan)
            for name in null.statistics
        }

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    def put(self, draw: int, error: Tensor) -> None:
        """Add the error of a draw. A draw that is zero or not finite stays NaN."""
        error = self._selection.take(self._call, error)
        if self._last is None or not torch.equal(self._last, error):  # above every B, all draws are equal
            self._last, self._values = error, self._statistics(error)
        for name, value in self._values.items():
            if isinstance(value, float):
                self._arrays[name][draw] = value
            else:  # missing samples add nothing to the spectrum
                self._arrays[name][draw] = 0
                self._arrays[name][draw, : len(value)] = value

    def arrays(self) -> dict[str, SignalArray]:
        """Return the arrays to store."""
        k = self._reference.k if self._reference is not None else 0
        return {
            name: SignalArray(
                self._arrays[statistic],
                self._null.dims(statistic),
                self._selection.attrs(statistic, self._call, k),
            )
            for statistic, name in zip(self._null.statistics, self._null.arrays, strict=True)
        }

    def _statistics(self, error: Tensor) -> Mapping[str, Array | float]:
        matrix = self._selection.matrix(self._call, error)
        if not _has_direction(matrix):
            return {}
        centered = spectra.centered(matrix)
        found: dict[str, Array | float] = {
            "spectrum_centered": spectra.singular_values(centered),
            "fourth_raw": _fourth(matrix),
            "fourth_centered": _fourth(centered),
        }
        if self._reference is None:
            return found | {"spectrum_raw": spectra.singular_values(matrix)}
        found.update(self._reference.statistics(error, matrix))
        return found


def _has_direction(matrix: Array) -> bool:
    return bool(np.isfinite(matrix).all() and matrix.any())


def _fourth(matrix: Array) -> float:
    return float(np.square(np.einsum("ij,ij->i", matrix, matrix)).sum())


def _by_sample(error: Tensor, matrix: Array) -> Array:
    # A cosine compares whole samples, not rows of an unfolding.
    return matrix if len(matrix) == len(error) else rows_of(error).cpu().numpy()
