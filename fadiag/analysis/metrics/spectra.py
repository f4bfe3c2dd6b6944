"""Define the metrics that keep whole spectra of signals, and the ranks of signals under other feedback."""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.rank import ranks_of, signal_with_spectrum
from fadiag.analysis.metrics.view import View, spectrum_of
from fadiag.errors import InputError
from fadiag.signals import SignalSpec, role_of

__all__ = ["SPECTRUM_AXIS", "ranks_of_recorded", "spectrum_metrics"]

#: The axis of a kept spectrum.
SPECTRUM_AXIS = "singular_value"


def _spectrum(view: View, *, signal: str, centered: bool) -> Values:
    """Return the singular values (step, min(rows, columns)), NaN where fewer were recorded.

    Centering takes one row's degree of freedom. A factor may hold further values, which are zero.
    """
    rows, columns = view.shape(signal)
    count = min(rows - centered, columns)
    found = view.spectrum(signal, centered=centered)[:, :count]
    out = np.full((len(found), count), np.nan)
    out[:, : found.shape[-1]] = found
    return out


def _metric(signal: SignalSpec, *, centered: bool) -> Metric:
    how = "centered" if centered else "raw"
    return Metric(
        name=f"{signal.name}_spectrum_{how}",
        kinds=signal.streams,
        signals=(signal.name,),
        function=partial(_spectrum, signal=signal.name, centered=centered),
        long_name=f"singular values of the {signal.name}, {how}, largest first",
        formula="s_1 >= s_2 >= ... of the matrix" + (" less its mean row" if centered else ""),
        source="definition",
        units="those of the signal",
        centered=centered,
        unfolds=signal.shape != "weight",
        null_signals=(spectrum_of(signal.name, centered=centered),),
        undefined="a matrix with fewer singular values",
        axis=SPECTRUM_AXIS,
    )


def spectrum_metrics(signals: str | Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics that keep the spectra of signals: raw, and centered where rows are samples.

    Raises
    ------
    InputError
        A name is no signal with a matrix. The error lists similar ones.

    Examples
    --------
    >>> [metric.name for metric in spectrum_metrics("error")]
    ['error_spectrum_raw', 'error_spectrum_centered']
    """
    found: list[Metric] = []
    for name in dict.fromkeys([signals] if isinstance(signals, str) else signals):
        signal = signal_with_spectrum(name)
        found += [
            _metric(signal, centered=c) for c in ((False,) if signal.shape == "weight" else (False, True))
        ]
    if not found:
        raise InputError("spectra is empty; leave it out to keep no spectra")
    return tuple(found)


def ranks_of_recorded(arrays: Iterable[str]) -> tuple[Metric, ...]:
    """Return the metrics of rank of signals under other feedback among the names of recorded arrays.

    Examples
    --------
    >>> [metric.name for metric in ranks_of_recorded(["error", "error_mine", "error_mine_norm"])][:1]
    ['error_mine_participation_ratio_raw']
    """
    other = [name for name in sorted(set(arrays)) if role_of(name).feedback and not role_of(name).part]
    return tuple(metric for name in other for metric in ranks_of(name))
