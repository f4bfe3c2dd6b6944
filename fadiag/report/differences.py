"""Difference holds how a condition differs from its baseline, with interval and p-value over paired seeds."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fadiag.analysis import compare
from fadiag.errors import InputError
from fadiag.report.question import Question
from fadiag.results.variables import find_variable, streams_of

__all__ = ["Difference", "differences"]


@dataclass(frozen=True)
class Difference:
    """One row of `fadiag.compare`: a variable at a layer, in two conditions.

    ``low``, ``high`` and ``p`` are NaN where they are not allowed, and ``note`` says why.
    """

    treated: str
    baseline: str
    variable: str
    layer: str
    mean: float = np.nan
    baseline_mean: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    runs: int = 0
    design: str = ""
    differs: bool = False
    note: str = ""

    @property
    def spans_zero(self) -> bool:
        """Whether the interval holds zero."""
        return bool(self.low <= 0 <= self.high)


def differences(results: xr.DataTree, question: Question, variables: Iterable[str]) -> list[Difference]:
    """Return the difference of each condition from the baseline, for some variables at all layers."""
    streams: dict[str, list[str]] = {}
    for name in dict.fromkeys([question.metric, *variables]):
        if (found := find_variable(results, name, streams_of(results, [name]))) is not None:
            streams.setdefault(found[0], []).append(name)
    groups = {f"/{stream}": results[stream].to_dataset()[names] for stream, names in streams.items()}
    kept = xr.DataTree.from_dict({"/": results.to_dataset(), **groups})
    return [row for pair in question.contrasts for row in _of_pair(kept, question, *pair)]


def _of_pair(results: xr.DataTree, question: Question, treated: str, baseline: str) -> list[Difference]:
    try:
        found = compare(results, results, conditions=(baseline, treated), names=(baseline, treated)).to_dict(
            "records"
        )
    except InputError as error:
        return [Difference(treated, baseline, question.metric, question.layer, note=str(error))]
    return [
        Difference(
            *(treated, baseline, row["variable"], row["layer"]),
            *(row["b"], row["a"], row["difference"], row["low"], row["high"], row["p"]),
            *(row["runs"], row["design"], row["differs"], row["note"]),
        )
        for row in found
    ]
