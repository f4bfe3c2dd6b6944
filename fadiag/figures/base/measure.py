"""Measure names a variable of the results, its words for readers, and the values that it can take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from fadiag.errors import InputError
from fadiag.figures.base.near_names import near
from fadiag.results import MeanInterval, mean_interval
from fadiag.results.intervals import cut_interval
from fadiag.results.possible import living, possible_values
from fadiag.signals import SIGNALS, role_of

__all__ = [
    "ACCURACY",
    "ALIGNMENT",
    "Measure",
    "cosine_measure",
    "exact_twin",
    "interval_within",
    "overlap_measure",
    "rank_measure",
    "scalar_measure",
]


@dataclass(frozen=True)
class Measure:
    """One variable in a figure.

    Parameters
    ----------
    name : str
        The variable in the results.
    words : str
        What it is, within a sentence: ``effective rank of the error, raw``.
    axis : str
        What it is, along an axis.
    floor, roof : float
        The smallest and largest possible values.
    log, rank : bool
        Whether its axis is logarithmic, and whether it is a rank.
    unit : str
        The unit after a number, such as `` %``.
    difference_unit : str
        The unit after a difference.
    twin : str
        The variable with the same of the exact error on the same weights; "" if there is none.
    layered : bool
        Whether the variable has layers; a scalar of its name is then not taken for it.
    per_cent, degrees : bool
        Whether to show shares of 1 in per cent, and cosines as angles.
    nulls : mapping
        The nulls that may be recorded -> their words: ``gate``, ``redrawn`` or ``independent``.
    """

    name: str
    words: str
    axis: str
    floor: float = -np.inf
    roof: float = np.inf
    log: bool = False
    rank: bool = False
    unit: str = ""
    difference_unit: str = ""
    twin: str = ""
    layered: bool = True
    per_cent: bool = False
    degrees: bool = False
    nulls: Mapping[str, str] = field(default_factory=dict)

    def null(self, kind: str) -> str:
        """Return the stem of the variables of a null."""
        return f"{self.name}_{'gate_' if kind == 'gate' else ''}null"


ALIGNMENT = Measure(
    *("weight_feedback_cosine", "cosine of weight and feedback", "cos(W, B)"),
    floor=-1,
    roof=1,
    nulls={"independent": "null of a B independent of W"},
)
ACCURACY = Measure(
    "test_accuracy",
    "test accuracy",
    "test accuracy (%)",
    0,
    100,
    unit=" %",
    difference_unit=" points",
    layered=False,
    per_cent=True,
)

#: Ranks with a raw and a centered form, and others -> their words.
_LADDER = {
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "effective_rank_energy": "effective rank of the energy",
    "stable_rank": "stable rank",
}
_RANKS = {
    f"{name}_{form}": (words, form) for name, words in _LADDER.items() for form in ("raw", "centered")
} | {
    "participation_ratio_debiased": ("participation ratio", "debiased"),
    "participation_ratio_row_normalized": ("participation ratio", "rows normalized"),
    "effective_samples": ("effective number of samples", "raw"),
}


def rank_measure(signal: str, metric: str, results: xr.DataTree) -> Measure:
    """Return the measure of a rank of a signal; a metric without a form, such as ``effective_rank``, is raw.

    Raises
    ------
    InputError
        There is no such signal or metric. The error names similar ones.

    Examples
    --------
    >>> rank_measure("error", "effective_rank", xr.DataTree()).words
    'effective rank of the error, raw'
    """
    full = f"{metric}_raw" if metric in _LADDER else metric
    if full not in _RANKS:
        raise InputError(f"no rank is called {metric!r}{near(metric, [*_LADDER, *_RANKS])}")
    twin = exact_twin(signal, f"{signal}_{full}", results)
    words, form = _RANKS[full]
    name = f"{signal}_{full}"
    floor, roof = possible_values(xr.DataArray(name=name, attrs=_attrs(results, name)))
    return Measure(
        name,
        f"{words} of the {signal.replace('_', ' ')}, {form}",
        f"{words}, {form}",
        floor=floor,
        roof=roof,
        log=True,
        rank=True,
        twin=f"{twin}_{full}" if twin else "",
        nulls={"gate": "gate null", "redrawn": "null of redrawn feedback"},
    )


def exact_twin(signal: str, variable: str, results: xr.DataTree) -> str:
    """Return the twin of a signal under exact backpropagation; "" if it has none.

    Raises
    ------
    InputError
        There is no such signal. One under other backward matrices is in no table, but in the results that
        hold the variable measured on it.
    """
    if signal not in SIGNALS and not (role_of(signal).feedback and _attrs(results, variable)):
        raise InputError(f"no signal is called {signal!r}{near(signal, SIGNALS)}")
    return SIGNALS[signal].twin if signal in SIGNALS else ""


def cosine_measure(signal: str, *, degrees: bool = False) -> Measure:
    """Return the measure of the cosine of a signal with its exact twin, or of its angle in degrees.

    Raises
    ------
    InputError
        The signal has no twin of the exact backward pass.
    """
    twin = _twin(signal)
    quantity = "angle" if degrees else "cosine"
    symbol = f"angle of {signal} and\n{twin} (degrees)" if degrees else f"cos({signal}, {twin})"
    return Measure(
        *(f"{signal}_cosine", f"{quantity} of {signal} and {twin}, mean over samples", symbol),
        floor=0 if degrees else -1,
        roof=180 if degrees else 1,
        unit="°" if degrees else "",
        difference_unit="°" if degrees else "",
        degrees=degrees,
        nulls={"redrawn": "null of redrawn feedback"},
    )


def overlap_measure(signal: str) -> Measure:
    """Return the measure of the overlap of a signal's leading directions with those of its exact twin.

    Raises
    ------
    InputError
        The signal has no twin of the exact backward pass.
    """
    twin, words = _twin(signal), "null of redrawn feedback"
    name = f"overlap of the leading directions of {signal} and {twin}"
    axis = f"overlap of {signal}\nwith {twin}"
    return Measure(f"{signal}_overlap", name, axis, floor=0, roof=1, nulls={"redrawn": words})


def scalar_measure(name: str, results: xr.DataTree) -> Measure:
    """Return the measure of a logged scalar: an accuracy is in per cent, a loss on a logarithmic axis.

    Raises
    ------
    InputError
        No run logged such a scalar, and it is none of the trainer's own. The error names similar ones.
    """
    logged = {
        str(v)
        for node in results.children.values()
        for v, array in node.data_vars.items()
        if set(array.dims) == {"run", "step"}
    }
    if name not in logged | {ACCURACY.name}:
        raise InputError(f"no scalar is called {name!r}{near(name, sorted(logged | {ACCURACY.name}))}")
    words = name.replace("_", " ")
    if name.endswith("accuracy"):
        return replace(ACCURACY, name=name, words=words, axis=f"{words} (%)")
    loss = name.endswith("loss")
    return Measure(name, words, words, floor=0 if loss else -np.inf, log=loss, layered=False)


def _twin(signal: str) -> str:
    if signal not in SIGNALS or not SIGNALS[signal].twin:
        known = [name for name, row in SIGNALS.items() if row.twin]
        raise InputError(f"no signal {signal!r} has an exact twin{near(signal, known)}")
    return SIGNALS[signal].twin


def _attrs(results: xr.DataTree, name: str) -> dict[str, Any]:
    found = [node.to_dataset()[name].attrs for node in results.children.values() if name in node.data_vars]
    return dict(found[0]) if found else {}


def interval_within(values: xr.DataArray, measure: Measure) -> MeanInterval:
    """Return the mean over seeds with its 95 % t interval, cut at the values that the measure can take.

    A run whose layer is dead has no rank, and is left out.

    Examples
    --------
    >>> found = interval_within(xr.DataArray([1.0, 1.0, 4.0], dims="seed"), Measure("r", "rank", "rank", 1))
    >>> found.mean.item(), found.low.item()
    (2.0, 1.0)
    """
    return cut_interval(mean_interval(living(values)), measure.floor, measure.roof)
