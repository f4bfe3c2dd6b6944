"""What a rank or an alignment is held against: redrawn feedback, and the layer's own gates."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fadiag import spectra
from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.arrays import Array, rows_of
from fadiag.capture.streams.null_samples import SampleSelection
from fadiag.capture.tracing.layer_call import Call

__all__ = [
    "MASK_STATISTICS",
    "REDRAW_STATISTICS",
    "Reference",
    "mask_nulls",
    "mask_statistics",
    "redraw_nulls",
]

MASK_STATISTICS = ("participation_ratio", "effective_rank")
REDRAW_STATISTICS = ("cosine", *MASK_STATISTICS, "overlap")


def _ranks(error: Array) -> dict[str, float]:
    if not (np.isfinite(error).all() and error.any()):
        return dict.fromkeys(MASK_STATISTICS, np.nan)
    return {
        "participation_ratio": float(spectra.participation_ratio(error)),
        "effective_rank": float(spectra.effective_rank(error)),
    }


class Reference:
    """The true error of one layer, to which errors under redrawn feedback are compared.

    Parameters
    ----------
    call : Call
        Of the true pass; its error is compared with those of the same call in other passes.
    kept : SampleSelection
    k : int
        Number of leading directions of the overlap.
    """

    def __init__(self, call: Call, kept: SampleSelection, k: int) -> None:
        self._call, self._kept = call, kept
        error = kept.take(call, call.values["error"])
        matrix = kept.matrix(call, error)
        self._samples = self._by_sample(error, matrix)
        self._alive = bool(np.isfinite(matrix).all() and matrix.any())
        self._k = max(1, min(k, *matrix.shape))
        self._basis = spectra.right_basis(matrix, self._k) if self._alive else None

    def statistics(self, error: Tensor) -> Mapping[str, float]:
        """Return `REDRAW_STATISTICS` of one redrawn error; NaN where one has no direction."""
        error = self._kept.take(self._call, error)
        matrix = self._kept.matrix(self._call, error)
        found = _ranks(matrix) | {"cosine": np.nan, "overlap": np.nan}
        if self._basis is not None and np.isfinite(matrix).all() and matrix.any():
            cosines = spectra.cosine(self._by_sample(error, matrix), self._samples)
            valid = cosines[~np.isnan(cosines)]
            found["cosine"] = float(valid.mean()) if valid.size else np.nan
            found["overlap"] = float(
                spectra.overlap_of_bases(spectra.right_basis(matrix, self._k), self._basis)
            )
        return found

    def _by_sample(self, error: Tensor, matrix: Array) -> Array:
        # A cosine is that of a sample, whatever the unfolding.
        return matrix if len(matrix) == len(error) else rows_of(error).cpu().numpy()


def mask_statistics(
    call: Call,
    kept: SampleSelection,
    spectra_of: Sequence[tuple[Tensor, Array]],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Send noise with the output error's spectrum through the layer's own gate and norm; measure its rank.

    This is the mask null: how much of the error's rank the gates alone make. The graph of the pass must still
    exist. ``spectra_of`` are groups of samples and the spectrum of each. A norm may mix all samples of a
    batch, so samples that are not kept get noise too.
    """
    assert call.a_edge is not None
    assert call.h_edge is not None
    found: dict[str, list[float]] = {name: [] for name in MASK_STATISTICS}
    like = call.values["modulator"]
    for _ in range(draws):
        noise = torch.empty(call.h_shape, dtype=torch.float64)
        for places, spectrum in spectra_of:
            noise[places] = kept.modulator(call, len(places), partial(_noise, spectrum, rng))
        (error,) = torch.autograd.grad((call.h_edge,), (call.a_edge,), (noise.to(like),), retain_graph=True)
        for name, value in _ranks(kept.matrix(call, kept.take(call, error))).items():
            found[name].append(value)
    return {f"mask_null_{name}": np.array(values) for name, values in found.items()}


def _noise(spectrum: Array, rng: np.random.Generator, rows: int, columns: int) -> Tensor:
    """Draw a matrix with as much of the spectrum as its shape takes (float64, on the CPU)."""
    largest = spectrum[: min(rows, columns)]
    return torch.from_numpy(spectra.gaussian_with_spectrum(largest, rows, columns, rng))


def redraw_nulls(
    through: Passes, truth: Sequence[Call], kept: SampleSelection, k: int, draws: int
) -> dict[str, dict[str, Array]]:
    """Return the statistics of the errors under redrawn feedback, by call."""
    generator = torch.Generator().manual_seed(through.seed)
    references = {c.name: Reference(c, kept, k) for c in truth if "error" in c.values}
    found = {
        name: {f"error_null_{s}": np.full(draws, np.nan) for s in REDRAW_STATISTICS} for name in references
    }
    for draw in range(draws):
        for call in through.run(through.redrawn(generator), ("error",)).calls:
            if "error" in call.values and call.name in references:
                for s, value in references[call.name].statistics(call.values["error"]).items():
                    found[call.name][f"error_null_{s}"][draw] = value
    return found


def mask_nulls(
    through: Passes, calls: Sequence[Call], kept: SampleSelection, draws: int
) -> dict[str, dict[str, Array]]:
    """Return the statistics of the mask null, by call of the model's own pass, whose graph still holds.

    Layers without gate and norm have none.
    """
    if draws == 0:
        return {}
    last = next(call for call in reversed(calls) if "error" in call.values)
    delta = last.values["error"]
    if not bool(torch.isfinite(delta).all()):
        return {}
    inside = torch.zeros(len(delta), dtype=torch.bool)
    inside[kept.places(last)] = True
    spectra_of = [
        (places, spectra.singular_values(kept.matrix(last, delta[places.to(delta.device)])))
        for places in (inside.nonzero()[:, 0], (~inside).nonzero()[:, 0])
        if len(places)
    ]
    # By way of torch, which takes a negative seed too.
    rng = np.random.default_rng(torch.Generator().manual_seed(through.seed).initial_seed())
    with through.under({}):
        return {
            call.name: mask_statistics(call, kept, spectra_of, draws, rng)
            for call in calls
            if (call.gate or call.norm) and "modulator" in call.values and call.h_shape[0] == len(delta)
            if kept.draws(call)
        }
