"""The metrics of one signal: how many directions it has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import DRAWN_VERSION, spectral_null_arrays, spectral_nulls
from fadiag.analysis.metrics.view import View, spectrum_of
from fadiag.signals import SIGNALS, SignalSpec, part_of

__all__ = ["RANK_METRICS", "ROW_SIGNALS"]

_HEADLINE = ("error", "modulator", "error_bp", "modulator_bp", "error_post")
#: The signals whose rows are samples, so that centering has a meaning; the headline signals come first.
ROW_SIGNALS: tuple[SignalSpec, ...] = (
    *(SIGNALS[name] for name in _HEADLINE),
    *(s for s in SIGNALS.values() if s.shape in ("output", "input") and s.name not in _HEADLINE),
)
#: The signals in the weight's shape that change from record to record; they have no rows to center.
_WEIGHT_SIGNALS = tuple(s for s in SIGNALS.values() if s.shape == "weight" and "static" not in s.streams)


@dataclass(frozen=True)
class _Definition:
    name: str
    of_matrix: Callable[[NDArray[Any]], Values] | None
    of_spectrum: Callable[[NDArray[np.float64]], Values]
    words: str
    formula: str
    source: str


_PARTICIPATION = _Definition(
    "participation_ratio",
    spectra.participation_ratio,  # traces alone: no spectrum needed
    spectra.participation_ratio_of_spectrum,
    "participation ratio",
    "(sum s^2)^2 / sum s^4",
    "Gao et al. 2017",
)
_EFFECTIVE = _Definition(
    "effective_rank",
    None,
    spectra.effective_rank_of_spectrum,
    "effective rank (Roy-Vetterli)",
    "exp(-sum q ln q), q = s / sum s",
    "Roy and Vetterli 2007",
)
_ENERGY = _Definition(
    "effective_rank_energy",
    None,
    spectra.effective_rank_energy_of_spectrum,
    "effective rank of the energy",
    "exp(-sum p ln p), p = s^2 / sum s^2",
    "definition",
)
_STABLE = _Definition(
    "stable_rank", None, spectra.stable_rank_of_spectrum, "stable rank", "sum s^2 / max s^2", "definition"
)
_LADDER = (_PARTICIPATION, _EFFECTIVE, _ENERGY, _STABLE)


def _ladder(view: View, *, signal: str, definition: _Definition, centered: bool) -> Values:
    if definition.of_matrix is not None:
        return definition.of_matrix(view.matrix(signal, centered=centered))
    return definition.of_spectrum(view.spectrum(signal, centered=centered))


def _moments(view: View, signal: str) -> tuple[Values, Values] | None:
    """Return the sums of the squares and of the fourth powers of the rows' norms, if recorded."""
    recorded = part_of(signal, "row_moments")
    if recorded not in view.signals:
        return None
    second, fourth = view.values(recorded).astype(np.float64).T
    return second, fourth


def _debiased(view: View, *, signal: str) -> Values:
    matrix = view.matrix(signal)
    if (moments := _moments(view, signal)) is not None:
        return _debiased_of_moments(matrix, *moments)
    if matrix.shape[-2] < 2:  # one sample says nothing about its population
        return np.full(len(matrix), np.nan)
    return spectra.participation_ratio_debiased(matrix)


def _debiased_of_moments(factor: NDArray[Any], second: Values, fourth: Values) -> Values:
    """Compute sum_ij K_ij^2 = |R R^T|_F^2 from a factor R, the rest from the moments of the rows."""
    out = np.zeros(len(factor))
    for i in np.flatnonzero(second > 0):
        r = factor[i].astype(np.float64) / np.sqrt(second[i])
        alone = fourth[i] / second[i] ** 2
        pairs = np.square(r.T @ r).sum() - alone
        eps = float(np.finfo(factor.dtype).eps)
        if 1 - alone <= eps:  # one row has all the energy
            out[i] = np.nan
        else:
            out[i] = (1 - alone) / pairs if pairs > eps else np.inf
    return out


def _samples(view: View, *, signal: str) -> Values:
    if (moments := _moments(view, signal)) is not None:
        second, fourth = moments
        return np.asarray(np.divide(second**2, fourth, out=np.zeros_like(second), where=fourth > 0))
    return spectra.effective_samples(view.matrix(signal))


def _samples_of_spectrum(s: NDArray[np.float64], fourth: NDArray[np.float64]) -> Values:
    """Effective samples from singular values and sum |x_i|^4, since sum s^2 = sum |x_i|^2."""
    second = np.square(s).sum(axis=-1)
    return np.asarray(np.divide(second**2, fourth, out=np.zeros_like(second), where=fourth > 0))


def _row_normalized(view: View, *, signal: str) -> Values:
    """Participation ratio of the rows at unit length; a row of zeros has no direction and stays zero."""
    recorded = part_of(signal, "row_normalized")
    if recorded in view.signals:
        return spectra.participation_ratio(view.matrix(recorded))
    matrix = view.matrix(signal).astype(np.float64)
    peak = np.abs(matrix).max(axis=-1, keepdims=True)
    np.divide(matrix, peak, out=matrix, where=peak > 0)  # squares of tiny rows would vanish
    norms = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return spectra.participation_ratio(np.divide(matrix, norms, out=matrix, where=norms > 0))


def _rank(definition: _Definition, signal: SignalSpec, *, centered: bool) -> Metric:
    name, how = signal.name, "centered" if centered else "raw"
    nulls = spectral_null_arrays(name, centered=centered)
    recorded = () if definition.of_matrix is not None else (spectrum_of(name, centered=centered),)
    return Metric(
        name=f"{name}_{definition.name}_{how}",
        kinds=signal.streams,
        signals=(name,),
        function=partial(_ladder, signal=name, definition=definition, centered=centered),
        long_name=f"{definition.words} of the {name}, {how}",
        formula=definition.formula,
        source=definition.source,
        centered=centered,
        null=partial(spectral_nulls, signal=name, centered=centered, function=definition.of_spectrum)
        if nulls
        else None,
        null_signals=(*nulls, *recorded),
        version=DRAWN_VERSION if nulls else 1,
    )


def _of_samples(signal: SignalSpec) -> list[Metric]:
    """Return the metrics of a signal whose rows are samples."""
    name, moments = signal.name, part_of(signal.name, "row_moments")
    of_samples = spectral_null_arrays(name, centered=False, fourth=True)
    samples_null = partial(
        spectral_nulls, signal=name, centered=False, function=_samples_of_spectrum, fourth=True
    )
    of_rows = partial(Metric, kinds=signal.streams, signals=(name,), centered=False, needs="rows")
    return [
        *(_rank(d, signal, centered=centered) for d in _LADDER for centered in (False, True)),
        of_rows(
            name=f"{name}_participation_ratio_debiased",
            function=partial(_debiased, signal=name),
            long_name=f"participation ratio of the {name}, raw, corrected for the number of samples",
            formula="[(sum K_ii)^2 - sum K_ii^2] / [sum_ij K_ij^2 - sum K_ii^2], K = X X^T",
            source="Chun et al., arXiv 2509.26560",
            undefined="fewer than two samples",
            beside=(name, moments),
        ),
        of_rows(
            name=f"{name}_effective_samples",
            function=partial(_samples, signal=name),
            long_name=f"effective number of samples that carry the {name}",
            formula="(sum |x_i|^2)^2 / sum |x_i|^4",
            source="definition",
            beside=(moments,),
            null=samples_null if of_samples else None,
            null_signals=of_samples,
            version=DRAWN_VERSION if of_samples else 1,
        ),
        of_rows(
            name=f"{name}_participation_ratio_row_normalized",
            function=partial(_row_normalized, signal=name),
            long_name=f"participation ratio of the {name}, raw, each row at unit length",
            formula="(sum s^2)^2 / sum s^4 of x_i / |x_i|",
            source="Gao et al. 2017",
            beside=(part_of(name, "row_normalized"),),
        ),
    ]


RANK_METRICS: tuple[Metric, ...] = (
    *(metric for signal in ROW_SIGNALS for metric in _of_samples(signal)),
    *(_rank(d, signal, centered=False) for signal in _WEIGHT_SIGNALS for d in _LADDER),
)
