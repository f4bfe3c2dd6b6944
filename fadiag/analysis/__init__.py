"""Measure recorded runs: one table of metrics, `analyze`, `compare`, onsets, and the state of a live run."""

from fadiag.analysis.analyze import analyze
from fadiag.analysis.cluster import cluster_executor
from fadiag.analysis.compare import compare
from fadiag.analysis.effect import by_effect
from fadiag.analysis.labelled import effective_rank, effective_rank_energy, participation_ratio, stable_rank
from fadiag.analysis.live_state import LiveState, live_state
from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.table import TABLE
from fadiag.analysis.metrics.unfold import unfold
from fadiag.analysis.metrics.view import Layer, SignalView, View
from fadiag.analysis.onsets import alignment_onset, onset_median
from fadiag.analysis.overlap_matrix import overlap_matrix

__all__ = [
    "TABLE",
    "Layer",
    "LiveState",
    "Metric",
    "SignalView",
    "View",
    "alignment_onset",
    "analyze",
    "by_effect",
    "cluster_executor",
    "compare",
    "effective_rank",
    "effective_rank_energy",
    "live_state",
    "onset_median",
    "overlap_matrix",
    "participation_ratio",
    "stable_rank",
    "unfold",
]


def __dir__() -> list[str]:
    return sorted(__all__)
