"""Measure the rank of a signal: how many directions it has."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import OF_ZEROS, Metric, Values
from fadiag.analysis.metrics.nulls import DRAWN_VERSION, spectral_null_arrays, spectral_nulls
from fadiag.analysis.metrics.view import View, spectrum_of
from fadiag.errors import InputError
from fadiag.signals import SIGNALS, SignalSpec, part_of, role_of
from fadiag.spectra.ranks.participation import debiased_of_sums

__all__ = ["RANK_METRICS", "ROW_SIGNALS", "ranks_of", "signal_with_spectrum"]

#: The smallest number of rows for a debiased participation ratio.
_FEWEST_ROWS = 4
_HEADLINE = ("error", "modulator", "error_bp", "modulator_bp", "error_post")
#: The signals whose rows are samples, so they can be centered. The headline signals come first.
ROW_SIGNALS: tuple[SignalSpec, ...] = (
    *(SIGNALS[name] for name in _HEADLINE),
    *(s for s in SIGNALS.values() if s.shape in ("output", "input") and s.name not in _HEADLINE),
)
#: The signals in the shape of the weight that change over time. Their rows are not samples.
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
    f"(sum s^2)^2 / sum s^4{OF_ZEROS}",
    "Gao et al. 2017",
)
_EFFECTIVE = _Definition(
    "effective_rank",
    None,
    spectra.effective_rank_of_spectrum,
    "effective rank (Roy-Vetterli)",
    f"exp(-sum q ln q), q = s / sum s{OF_ZEROS}",
    "Roy and Vetterli 2007",
)
_ENERGY = _Definition(
    "effective_rank_energy",
    None,
    spectra.effective_rank_energy_of_spectrum,
    "effective rank of the energy",
    f"exp(-sum p ln p), p = s^2 / sum s^2{OF_ZEROS}",
    "definition",
)
_STABLE = _Definition(
    "stable_rank",
    None,
    spectra.stable_rank_of_spectrum,
    "stable rank",
    f"sum s^2 / max s^2{OF_ZEROS}",
    "definition",
)
_LADDER = (_PARTICIPATION, _EFFECTIVE, _ENERGY, _STABLE)


def _ladder(view: View, *, signal: str, definition: _Definition, centered: bool) -> Values:
    if definition.of_matrix is not None:
        return definition.of_matrix(view.matrix(signal, centered=centered))
    return definition.of_spectrum(view.spectrum(signal, centered=centered))


def _moments(view: View, signal: str) -> Values | None:
    """Return the row moments saved with a factor: N, sum |x|^2, |x|^4 and |x - mean|^4, by step."""
    recorded = part_of(signal, "row_moments")
    if recorded not in view.signals:
        return None
    return view.values(recorded).astype(np.float64).T


def _bound(view: View, *, signal: str, centered: bool) -> int:
    """Return the largest possible rank of a signal's matrix; centering makes one row dependent."""
    rows, columns = view.shape(signal)
    return min(rows - centered, columns)


def _debiased(view: View, *, signal: str) -> Values:
    moments = _moments(view, signal)
    if moments is None:
        matrix = view.matrix(signal)
        if matrix.shape[-2] < _FEWEST_ROWS:
            return np.full(len(matrix), np.nan)
        return spectra.participation_ratio_debiased(matrix)
    out = np.full(len(moments[0]), np.nan)
    rows, _, _, fourth = moments
    for i in np.flatnonzero(rows >= _FEWEST_ROWS):
        stored = view.matrix(signal, centered=True)[i]
        factor = stored.astype(np.float64)
        if not (total := np.square(factor).sum()) > 0:
            out[i] = 0.0
            continue
        factor /= np.sqrt(total)
        square = np.square(factor.T @ factor).sum()
        eps = float(np.finfo(stored.dtype).eps)
        out[i] = debiased_of_sums(int(rows[i]), 1.0, square, fourth[i] / total**2, eps=eps)
    return out


def _samples(view: View, *, signal: str) -> Values:
    if (moments := _moments(view, signal)) is not None:
        second, fourth = moments[1:3]
        found: Values = np.divide(second**2, fourth, out=np.zeros_like(second), where=fourth > 0)
        return found
    return spectra.effective_samples(view.matrix(signal))


def _samples_of_spectrum(s: NDArray[np.float64], fourth: NDArray[np.float64]) -> Values:
    """Return the effective samples from singular values and sum |x_i|^4, since sum s^2 = sum |x_i|^2."""
    second = np.square(s).sum(axis=-1)
    return np.asarray(np.divide(second**2, fourth, out=np.zeros_like(second), where=fourth > 0))


def _row_normalized(view: View, *, signal: str) -> Values:
    """Return the participation ratio of the rows at unit length; a row of zeros stays zero."""
    recorded = part_of(signal, "row_normalized")
    if recorded in view.signals:
        return spectra.participation_ratio(view.matrix(recorded))
    matrix = view.matrix(signal).astype(np.float64)
    peak = np.abs(matrix).max(axis=-1, keepdims=True)
    np.divide(matrix, peak, out=matrix, where=peak > 0)  # otherwise squares of tiny rows underflow
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
        unfolds=signal.shape != "weight",
        bound=partial(_bound, signal=name, centered=centered),
        bound_formula="min(rows - 1, columns)" if centered else "min(rows, columns)",
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
    of_rows = partial(Metric, kinds=signal.streams, signals=(name,), needs="rows")
    return [
        *(_rank(d, signal, centered=centered) for d in _LADDER for centered in (False, True)),
        of_rows(
            name=f"{name}_participation_ratio_debiased",
            function=partial(_debiased, signal=name),
            long_name=f"participation ratio of the {name}, centered, corrected for the number of samples",
            formula="[2 F + (N^2 - 3 N + 1) T^2 - N (N - 1) D] / [(N - 1) (N - 2) F + T^2 - N (N - 1) D], "
            f"K = X X^T of the N centered rows, T = tr K, F = |K|_F^2, D = sum K_ii^2{OF_ZEROS}",
            source="Chun et al., arXiv 2509.26560",
            centered=True,
            undefined="fewer than four samples, or only one sample that differs from the others",
            factor_signals=(name, moments),
            version=2,
        ),
        of_rows(
            name=f"{name}_effective_samples",
            function=partial(_samples, signal=name),
            long_name=f"effective number of samples that carry the {name}",
            formula=f"(sum |x_i|^2)^2 / sum |x_i|^4, sum |x_i|^2 = sum s^2{OF_ZEROS}",
            source="definition",
            centered=False,
            factor_signals=(moments,),
            null=samples_null if of_samples else None,
            null_signals=of_samples,
            version=DRAWN_VERSION if of_samples else 1,
        ),
        of_rows(
            name=f"{name}_participation_ratio_row_normalized",
            function=partial(_row_normalized, signal=name),
            long_name=f"participation ratio of the {name}, raw, each row at unit length",
            formula=f"(sum s^2)^2 / sum s^4 of x_i / |x_i|{OF_ZEROS}",
            source="Gao et al. 2017",
            centered=False,
            bound=partial(_bound, signal=name, centered=False),
            bound_formula="min(rows, columns)",
            factor_signals=(part_of(name, "row_normalized"),),
        ),
    ]


def signal_with_spectrum(array: str) -> SignalSpec:
    """Return the row of a signal that has a spectrum; one under other feedback has a row of its own.

    Raises
    ------
    InputError
        The name is no such signal. The error lists similar ones.

    Examples
    --------
    >>> signal_with_spectrum("error_mine").streams
    ('probe',)
    """
    known = {signal.name: signal for signal in (*ROW_SIGNALS, *_WEIGHT_SIGNALS)}
    role = role_of(array)
    if array in known:
        return known[array]
    if role.signal is not None and role.feedback and not role.part:
        return replace(role.signal, name=array, streams=("probe",), twin="")
    near = get_close_matches(array, known, n=3)
    raise InputError(f"{array!r} is no signal with a spectrum; near: {', '.join(near or known)}")


def ranks_of(array: str) -> tuple[Metric, ...]:
    """Return the metrics of the rank of a signal."""
    signal = signal_with_spectrum(array)
    if signal.shape == "weight":
        return tuple(_rank(definition, signal, centered=False) for definition in _LADDER)
    return tuple(_of_samples(signal))


RANK_METRICS: tuple[Metric, ...] = tuple(
    metric for signal in (*ROW_SIGNALS, *_WEIGHT_SIGNALS) for metric in ranks_of(signal.name)
)
