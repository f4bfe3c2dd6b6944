"""Measure change over several records: how far an activation moves, and how many directions updates take."""

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.metric import OF_ZEROS, Metric, Values
from fadiag.analysis.metrics.signal_refs import WINDOW
from fadiag.analysis.metrics.view import View

__all__ = ["TRAJECTORY_METRICS"]

_FEWEST_SAMPLES = 4


def _cka_with_first(view: View) -> Values:
    now, first = view.matrix("activation"), view.matrix("first/activation")
    if now.shape[-2] < _FEWEST_SAMPLES or not np.isfinite(first).all():
        return np.full(len(now), np.nan)
    return spectra.linear_cka_debiased(now, first)


def _exploration(view: View) -> Values:
    recent = view.values("recent/update")
    return spectra.exploration(recent.reshape(*recent.shape[:3], -1))


TRAJECTORY_METRICS: tuple[Metric, ...] = (
    Metric(
        name="activation_cka_first",
        kinds=("probe",),
        signals=("activation", "first/activation"),
        function=_cka_with_first,
        long_name="debiased linear CKA of the activation with its first record",
        formula="HSIC(K_t, K_0) / sqrt(HSIC(K_t, K_t) HSIC(K_0, K_0)), K = X X^T, unbiased HSIC",
        source="Kornblith et al. 2019; Nguyen et al. 2021",
        needs="rows",
        undefined="fewer than four samples, rows that are all equal, or a first record that is not finite",
    ),
    Metric(
        name=f"update_exploration_{WINDOW}",
        kinds=("state",),
        signals=("recent/update",),
        function=_exploration,
        long_name=f"participation ratio of the summed Grams of the last {WINDOW} recorded updates",
        formula=f"(tr S)^2 / |S|_F^2, S = sum dW^T dW over the last {WINDOW} records{OF_ZEROS}",
        source="definition",
        unfolds=False,
        centered=False,
    ),
)
