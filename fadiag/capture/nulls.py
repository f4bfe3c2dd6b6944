"""What a rank or an alignment is held against: redrawn feedback, and the layer's own gates."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fadiag import spectra
from fadiag.capture.arrays import Array, rows_of
from fadiag.capture.passes import Passes
from fadiag.capture.trace import Call

__all__ = [
    "MASK_STATISTICS",
    "REDRAW_STATISTICS",
    "Reference",
    "mask_nulls",
    "mask_statistics",
    "null_attrs",
    "redraw_nulls",
    "shaped_noise",
]

MASK_STATISTICS = ("participation_ratio", "effective_rank")
REDRAW_STATISTICS = ("cosine", *MASK_STATISTICS, "overlap")


def null_attrs(name: str, shape: torch.Size, k: int) -> dict[str, str | int]:
    """Return of which matrices and subspaces a statistic of a null is, by its name and the error's shape."""
    attrs: dict[str, str | int] = {}
    if not name.endswith("cosine"):  # each row is a sample; without positions there is no other unfolding
        attrs["unfolding"] = "samples" if len(shape) > 2 else "both"
    if name.endswith("overlap"):
        attrs["k"] = k
    return attrs


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
    error_bp : Tensor (sample, ...)
    k : int
        Number of leading directions of the overlap.
    """

    def __init__(self, error_bp: Tensor, k: int) -> None:
        self._rows: Array = rows_of(error_bp).cpu().numpy()
        self._alive = bool(np.isfinite(self._rows).all() and self._rows.any())
        self._k = max(1, min(k, *self._rows.shape))
        self._basis = spectra.right_basis(self._rows, self._k) if self._alive else None

    def statistics(self, error: Tensor) -> Mapping[str, float]:
        """Return `REDRAW_STATISTICS` of one redrawn error; NaN where one has no direction."""
        rows: Array = rows_of(error).cpu().numpy()
        found = _ranks(rows) | {"cosine": np.nan, "overlap": np.nan}
        if self._basis is not None and np.isfinite(rows).all() and rows.any():
            cosines = spectra.cosine(rows, self._rows)
            valid = cosines[~np.isnan(cosines)]
            found["cosine"] = float(valid.mean()) if valid.size else np.nan
            found["overlap"] = float(
                spectra.overlap_of_bases(spectra.right_basis(rows, self._k), self._basis)
            )
        return found


def shaped_noise(spectrum: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw a modulator with a given spectrum and directions uniform on both sides (float64, on the CPU)."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    rank = min(len(spectrum), rows, columns)
    left, right = (
        torch.linalg.qr(torch.randn(n, rank, generator=generator, dtype=torch.float64)).Q
        for n in (rows, columns)
    )
    noise: Tensor = (left * spectrum[:rank]) @ right.T
    return noise.reshape(shape)


def mask_statistics(call: Call, spectrum: Tensor, draws: int, generator: torch.Generator) -> dict[str, Array]:
    """Push noise with the output error's spectrum through the layer's own gate and norm; measure its rank.

    The mask null: how much of the error's rank the gates alone make. The graph of the pass must still hold.
    """
    assert call.a_edge is not None
    assert call.h_edge is not None
    found: dict[str, list[float]] = {name: [] for name in MASK_STATISTICS}
    like = call.values["modulator"]
    for _ in range(draws):
        noise = shaped_noise(spectrum, call.h_shape, generator).to(like)
        (error,) = torch.autograd.grad((call.h_edge,), (call.a_edge,), (noise,), retain_graph=True)
        for name, value in _ranks(rows_of(error).cpu().numpy()).items():
            found[name].append(value)
    return {f"mask_null_{name}": np.array(values) for name, values in found.items()}


def redraw_nulls(through: Passes, truth: Sequence[Call], k: int, draws: int) -> dict[str, dict[str, Array]]:
    """Return the statistics of the errors under redrawn feedback, by call."""
    generator = torch.Generator().manual_seed(through.seed)
    references = {c.name: Reference(c.values["error"], k) for c in truth if "error" in c.values}
    found = {
        name: {f"error_null_{s}": np.full(draws, np.nan) for s in REDRAW_STATISTICS} for name in references
    }
    for draw in range(draws):
        for call in through.run(through.redrawn(generator), ("error",)).calls:
            if "error" in call.values and call.name in references:
                for s, value in references[call.name].statistics(call.values["error"]).items():
                    found[call.name][f"error_null_{s}"][draw] = value
    return found


def mask_nulls(calls: Sequence[Call], draws: int, seed: int) -> dict[str, dict[str, Array]]:
    """Return the statistics of the mask null, by call; layers without gate and norm have none."""
    if draws == 0:
        return {}
    last = next(call for call in reversed(calls) if "error" in call.values)
    delta = rows_of(last.values["error"]).cpu()
    if not bool(torch.isfinite(delta).all()):
        return {}
    spectrum = torch.linalg.svdvals(delta)
    generator = torch.Generator().manual_seed(seed)
    return {
        call.name: mask_statistics(call, spectrum, draws, generator)
        for call in calls
        if (call.gate or call.norm) and "modulator" in call.values and call.h_shape[0] == len(delta)
    }
