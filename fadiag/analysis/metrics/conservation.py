"""Measure how well training under Feedback Alignment keeps the quantity that its equations conserve.

Unit k of layer l has the squared norm N_k = |W_l[k,:]|^2 + b_l[k]^2 of its own weights, and the alignment
A_k = 2 B_(l+1)[:,k] . W_(l+1)[:,k] of those that read it. Under Feedback Alignment with a fixed B, plain SGD
without momentum, decay or norm, and a gate that is ReLU or linear, a step changes N_k - A_k by its own square
|dW_l[k,:]|^2 + db_l[k]^2, and by nothing else. So N_k grows only as the weights above align with B.
"""

import numpy as np

from fadiag.analysis.metrics.alignment import ratio
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.view import View

__all__ = ["CONSERVATION_METRICS"]

_SIGNALS = ("weight", "first/weight", "above/weight", "above/first/weight", "above/static/feedback")
_BIASES = ("bias", "first/bias", "static/bias_init")


def _drift(view: View) -> Values:
    weight, first, above, above_first, feedback = (view.matrix(s).astype(np.float64) for s in _SIGNALS)
    norms = (weight**2).sum(axis=-1) - (first**2).sum(axis=-1)
    if "static/bias_init" in view.signals:
        if "bias" not in view.signals:
            return np.full(len(view.steps), np.nan)
        bias, bias_first = (view.values(s).astype(np.float64) for s in _BIASES[:2])
        norms = norms + bias**2 - bias_first**2
    alignments = 2 * (feedback * (above - above_first)).sum(axis=-2)
    apart = np.abs(norms - alignments).sum(axis=-1)
    return ratio(apart, (np.abs(norms) + np.abs(alignments)).sum(axis=-1))


CONSERVATION_METRICS: tuple[Metric, ...] = (
    Metric(
        "weight_conservation_drift",
        kinds=("state",),
        signals=_SIGNALS,
        function=_drift,
        long_name="drift of the units' conserved quantity from 0, kept, to 1 (conserved under Feedback "
        "Alignment with fixed B, plain SGD without momentum, decay or norm, ReLU or linear)",
        formula="sum_k |dN_k - dA_k| / sum_k (|dN_k| + |dA_k|), N_k = |W_l[k,:]|^2 + b_l[k]^2, "
        "A_k = 2 B_(l+1)[:,k] . W_(l+1)[:,k], d the change since the first record",
        source="definition",
        unfolds=False,
        read_too=_BIASES,
        layers="below layerwise",
        undefined="the first record itself, or a layer whose bias was not recorded",
    ),
)
