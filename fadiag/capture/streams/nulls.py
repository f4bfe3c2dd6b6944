"""Draw the nulls of the error: errors under redrawn feedback, and noise through the layer's own gate."""

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
from fadiag.signals import NULLS

__all__ = ["Reference", "mask_nulls", "mask_statistics", "redraw_nulls"]

_ERROR_NULL, _MASK_NULL = NULLS["error_null"], NULLS["mask_null"]


def _ranks(error: Array) -> dict[str, float]:
    if not (np.isfinite(error).all() and error.any()):
        return dict.fromkeys(_MASK_NULL.statistics, np.nan)
    return {
        "participation_ratio": float(spectra.participation_ratio(error)),
        "effective_rank": float(spectra.effective_rank(error)),
    }


class Reference:
    """The true error of one layer, with which errors under redrawn feedback are compared.

    Parameters
    ----------
    call : Call
        The layer's call in the true pass.
    selection : SampleSelection
    k : int
        The number of leading directions of the overlap.
    """

    def __init__(self, call: Call, selection: SampleSelection, k: int) -> None:
        self._call, self._selection = call, selection
        error = selection.take(call, call.values["error"])
        matrix = selection.matrix(call, error)
        self._samples = self._by_sample(error, matrix)
        self._k = max(1, min(k, *matrix.shape))
        has_direction = bool(np.isfinite(matrix).all() and matrix.any())
        self._basis = spectra.right_basis(matrix, self._k) if has_direction else None

    def statistics(self, error: Tensor) -> Mapping[str, float]:
        """Return the statistics of the error null for one redrawn error; NaN if it has no direction."""
        error = self._selection.take(self._call, error)
        matrix = self._selection.matrix(self._call, error)
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
        # A cosine compares samples, not rows of an unfolding.
        return matrix if len(matrix) == len(error) else rows_of(error).cpu().numpy()


def mask_statistics(
    call: Call,
    selection: SampleSelection,
    spectra_of: Sequence[tuple[Tensor, Array]],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Return the statistics of the mask null for one call, whose graph is retained.

    Each draw is noise with the spectrum of the output error. It goes back through the layer's own gate and
    norm. Its rank then shows how much of the error's rank comes from the gates alone.

    Parameters
    ----------
    call : Call
    selection : SampleSelection
    spectra_of : sequence of (Tensor, array)
        The indices of a group of samples, and the spectrum of their noise. Every sample of the batch needs
        noise, because a norm may mix samples.
    draws : int
    rng : numpy.random.Generator
    """
    assert call.a_edge is not None
    assert call.h_edge is not None
    found: dict[str, list[float]] = {statistic: [] for statistic in _MASK_NULL.statistics}
    like = call.values["modulator"]
    for _ in range(draws):
        noise = torch.empty(call.h_shape, dtype=torch.float64, device="cpu")
        for indices, spectrum in spectra_of:
            draw = partial(_noise, spectrum, rng)
            noise[indices] = selection.draw_modulator(call, len(indices), draw)
        (error,) = torch.autograd.grad((call.h_edge,), (call.a_edge,), (noise.to(like),), retain_graph=True)
        for statistic, value in _ranks(selection.matrix(call, selection.take(call, error))).items():
            found[statistic].append(value)
    return {statistic: np.array(values) for statistic, values in found.items()}


def _noise(spectrum: Array, rng: np.random.Generator, rows: int, columns: int) -> Tensor:
    """Draw a matrix with as much of the spectrum as its shape takes (float64, on the CPU)."""
    largest = spectrum[: min(rows, columns)]
    return torch.from_numpy(spectra.gaussian_with_spectrum(largest, rows, columns, rng))


def redraw_nulls(
    passes: Passes, truth: Sequence[Call], selection: SampleSelection, k: int, draws: int
) -> dict[str, dict[str, Array]]:
    """Return the statistics of the errors under redrawn feedback, by call and statistic.

    Parameters
    ----------
    passes : Passes
    truth : sequence of Call
        The calls of the true pass.
    selection : SampleSelection
    k : int
        The number of leading directions of the overlap.
    draws : int
    """
    generator = torch.Generator().manual_seed(passes.seed)
    references = {c.name: Reference(c, selection, k) for c in truth if "error" in c.values}
    found = {
        name: {statistic: np.full(draws, np.nan) for statistic in _ERROR_NULL.statistics}
        for name in references
    }
    for draw in range(draws):
        for call in passes.run(passes.redrawn(generator), ("error",)).calls:
            if "error" in call.values and call.name in references:
                for statistic, value in references[call.name].statistics(call.values["error"]).items():
                    found[call.name][statistic][draw] = value
    return found


def mask_nulls(
    passes: Passes, calls: Sequence[Call], selection: SampleSelection, draws: int
) -> dict[str, dict[str, Array]]:
    """Return the statistics of the mask null, by call and statistic.

    Layers without gate and norm have none.

    Parameters
    ----------
    passes : Passes
    calls : sequence of Call
        The calls of the model's own pass, whose graph is retained.
    selection : SampleSelection
    draws : int
    """
    if draws == 0:
        return {}
    last = next(call for call in reversed(calls) if "error" in call.values)
    delta = last.values["error"]
    if not bool(torch.isfinite(delta).all()):
        return {}
    chosen = torch.zeros(len(delta), dtype=torch.bool, device="cpu")
    chosen[selection.indices(last)] = True
    spectra_of = [
        (at, spectra.singular_values(selection.matrix(last, delta[at.to(delta.device)])))
        for at in (chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0])
        if len(at)
    ]
    # By way of torch, which takes a negative seed too.
    rng = np.random.default_rng(torch.Generator().manual_seed(passes.seed).initial_seed())
    with passes.under({}):
        return {
            call.name: mask_statistics(call, selection, spectra_of, draws, rng)
            for call in calls
            if (call.gate or call.norm) and "modulator" in call.values and call.h_shape[0] == len(delta)
            if selection.can_draw_modulator(call)
        }
