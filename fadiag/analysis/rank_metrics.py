"""The metrics of one matrix: how many directions a signal has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.matrix import where_alive
from fadiag.analysis.metric import Metric, Values
from fadiag.analysis.nulls import drawn_rank_nulls
from fadiag.analysis.view import View

__all__ = ["RANK_METRICS"]

#: Rows are samples, so that centring has a meaning.
_ROW_SIGNALS = ("error", "modulator", "error_bp", "modulator_bp", "error_post", "activation", "input")


@dataclass(frozen=True)
class _Definition:
    name: str
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    words: str
    formula: str
    source: str


_PARTICIPATION = _Definition(
    "participation_ratio",
    spectra.participation_ratio,
    "participation ratio",
    "(sum s^2)^2 / sum s^4",
    "Gao et al. 2017",
)
_EFFECTIVE = _Definition(
    "effective_rank",
    spectra.effective_rank,
    "effective rank (Roy-Vetterli)",
    "exp(-sum q ln q), q = s / sum s",
    "Roy and Vetterli 2007",
)
_ENERGY = _Definition(
    "effective_rank_energy",
    spectra.effective_rank_energy,
    "effective rank of the energy",
    "exp(-sum p ln p), p = s^2 / sum s^2",
    "definition",
)
_STABLE = _Definition("stable_rank", spectra.stable_rank, "stable rank", "sum s^2 / max s^2", "definition")
_LADDER = (_PARTICIPATION, _EFFECTIVE, _ENERGY, _STABLE)


def _measure(view: View, *, signal: str, function: Callable[..., Values], centred: bool) -> Values:
    return where_alive(function, view.matrix(signal, centred=centred))


def _row_normalised(view: View, *, signal: str) -> Values:
    """Participation ratio of the rows at unit length; a row of zeros has no direction and stays zero."""
    matrix = view.matrix(signal).astype(np.float64)
    matrix /= np.maximum(np.abs(matrix).max(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    norms = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return where_alive(spectra.participation_ratio, np.divide(matrix, norms, out=matrix, where=norms > 0))


def _rank(definition: _Definition, signal: str, kinds: tuple[str, ...], *, centred: bool) -> Metric:
    with_null = signal == "error" and not centred and definition in (_PARTICIPATION, _EFFECTIVE)
    how = "centred" if centred else "raw"
    return Metric(
        name=f"{signal}_{definition.name}_{how}",
        kinds=kinds,
        signals=(signal,),
        function=partial(_measure, signal=signal, function=definition.function, centred=centred),
        long_name=f"{definition.words} of the {signal}, {how}",
        formula=definition.formula,
        source=definition.source,
        centred=centred,
        null=partial(drawn_rank_nulls, statistic=definition.name) if with_null else None,
        null_signals=(f"error_null_{definition.name}", f"mask_null_{definition.name}") if with_null else (),
    )


def _of_samples(signal: str) -> list[Metric]:
    """Return the metrics of a signal whose rows are samples."""
    kinds = ("probe", "live")
    metrics = [_rank(d, signal, kinds, centred=centred) for d in _LADDER for centred in (False, True)]
    metrics += [
        Metric(
            name=f"{signal}_participation_ratio_debiased",
            kinds=kinds,
            signals=(signal,),
            function=partial(
                _measure, signal=signal, function=spectra.participation_ratio_debiased, centred=False
            ),
            long_name=f"participation ratio of the {signal}, raw, corrected for the number of samples",
            formula="[(sum K_ii)^2 - sum K_ii^2] / [sum_ij K_ij^2 - sum K_ii^2], K = X X^T",
            source="Chun et al., arXiv 2509.26560",
            centred=False,
            needs="rows",
        ),
        Metric(
            name=f"{signal}_effective_samples",
            kinds=kinds,
            signals=(signal,),
            function=partial(_measure, signal=signal, function=spectra.effective_samples, centred=False),
            long_name=f"effective number of samples that carry the {signal}",
            formula="(sum |x_i|^2)^2 / sum |x_i|^4",
            source="definition",
            centred=False,
            needs="rows",
        ),
        Metric(
            name=f"{signal}_participation_ratio_row_normalised",
            kinds=kinds,
            signals=(signal,),
            function=partial(_row_normalised, signal=signal),
            long_name=f"participation ratio of the {signal}, raw, each row at unit length",
            formula="(sum s^2)^2 / sum s^4 of x_i / |x_i|",
            source="Gao et al. 2017",
            centred=False,
            needs="rows",
        ),
    ]
    return metrics


#: A weight-shaped signal has no rows to centre. `gradient` is in both streams.
_OF_WEIGHTS = {
    "gradient": ("probe", "state"),
    "gradient_bp": ("probe",),
    "weight": ("state",),
    "momentum": ("state",),
    "update": ("state",),
}

RANK_METRICS: tuple[Metric, ...] = (
    *(metric for signal in _ROW_SIGNALS for metric in _of_samples(signal)),
    *(_rank(d, s, kinds, centred=False) for s, kinds in _OF_WEIGHTS.items() for d in _LADDER),
)
