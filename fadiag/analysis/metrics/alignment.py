"""Compare the credit that a layer receives with the credit of backpropagation."""

from functools import partial

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import DRAWN_VERSION, drawn_nulls
from fadiag.analysis.metrics.rank import ROW_SIGNALS
from fadiag.analysis.metrics.subspaces import SUBSPACE_METRICS
from fadiag.analysis.metrics.view import View
from fadiag.signals import SIGNALS, SignalSpec, nulls_of, part_of

__all__ = ["ALIGNMENT_METRICS", "norm_ratio", "over_valid", "ratio", "vector_cosine"]

_NO_SAMPLE = "no sample where both have a direction"
_ZEROS = "a signal of zeros has no direction"
_MEAN = "mean over the samples where both have a direction"


def _rows(view: View, signal: str) -> Values:
    """Return one vector per sample, for either unfolding."""
    values = view.values(signal)
    return values.reshape(*values.shape[:2], -1)


def _cosines(view: View, pair: tuple[str, str]) -> Values:
    """Return the cosine of each sample (step, sample); NaN if one of the two vectors is zero."""
    recorded = part_of(pair[0], "cosine")
    if recorded in view.signals:
        return view.values(recorded).astype(np.float64)
    return view.keep(("cosine", pair), lambda: spectra.cosine(_rows(view, pair[0]), _rows(view, pair[1])))


def over_valid(cosines: Values, statistic: str) -> Values:
    """Apply mean or median to the valid samples of each step; NaN for a step without any."""
    out = np.full(len(cosines), np.nan)
    for i, row in enumerate(cosines):
        valid = row[~np.isnan(row)]
        if valid.size:
            out[i] = np.mean(valid) if statistic == "mean" else np.median(valid)
    return out


def _cosine(view: View, *, pair: tuple[str, str], statistic: str) -> Values:
    return over_valid(_cosines(view, pair), statistic)


def _cosine_valid(view: View, *, pair: tuple[str, str]) -> Values:
    return np.asarray(np.mean(~np.isnan(_cosines(view, pair)), axis=-1))


def ratio(above: Values, below: Values) -> Values:
    """Return above / below for each step; NaN if `below` is zero. A static norm counts for all steps."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def norm_ratio(view: View, *, pair: tuple[str, str]) -> Values:
    """Return the norm of the first signal divided by the norm of the second; NaN if the latter is zero."""
    above, below = (np.linalg.norm(view.flat(s).astype(np.float64), axis=-1) for s in pair)
    return ratio(above, below)


def vector_cosine(view: View, *, pair: tuple[str, str]) -> Values:
    """Return the cosine of two signals at each step, with each signal as one vector."""
    return view.keep(("vector cosine", pair), lambda: spectra.cosine(view.flat(pair[0]), view.flat(pair[1])))


def _jacobian_mean(view: View) -> Values:
    return over_valid(view.values("jacobian_cosine").astype(np.float64), "mean")


def _descent_cosine(view: View, *, pair: tuple[str, str]) -> Values:
    return -vector_cosine(view, pair=pair)


def _first_order_change(view: View, *, pair: tuple[str, str]) -> Values:
    update, gradient = (view.flat(s).astype(np.float64) for s in pair)
    return np.asarray(np.einsum("si,si->s", update, gradient))


def _norm_ratio_of(signal: SignalSpec, formula: str) -> Metric:
    """Return the metric that divides the norm of a signal by the norm of its twin."""
    return Metric(
        name=f"{signal.name}_norm_ratio",
        kinds=SIGNALS[signal.twin].streams,
        signals=(signal.name, signal.twin),
        unfolds=False,
        function=partial(norm_ratio, pair=(signal.name, signal.twin)),
        long_name=f"norm of {signal.name} over norm of {signal.twin}",
        formula=formula,
        source="definition",
        undefined=f"{signal.twin} is zero",
    )


def _samplewise(signal: SignalSpec) -> tuple[Metric, ...]:
    """Return the metrics of a signal and its twin, sample by sample."""
    name, pair = signal.name, (signal.name, signal.twin)
    of_rows = partial(
        Metric,
        kinds=SIGNALS[signal.twin].streams,
        signals=pair,
        unfolds=False,
        needs="rows",
        factor_signals=(part_of(name, "cosine"),),
        undefined=_NO_SAMPLE,
        source="Lillicrap et al. 2016",
    )
    nulls = tuple(nulls_of(name, "cosine").values())
    words = f"{name} and {signal.twin}"
    formula = f"x_i . y_i / (|x_i| |y_i|), {_MEAN}"
    return (
        of_rows(
            name=f"{name}_cosine",
            function=partial(_cosine, pair=pair, statistic="mean"),
            long_name=f"cosine of {words}, mean over samples",
            formula=formula,
            null=partial(drawn_nulls, signal=name, statistic="cosine") if nulls else None,
            null_signals=nulls,
            version=DRAWN_VERSION if nulls else 1,
        ),
        of_rows(
            name=f"{name}_cosine_median",
            function=partial(_cosine, pair=pair, statistic="median"),
            long_name=f"cosine of {words}, median over samples",
            formula=formula.replace("mean", "median"),
        ),
        of_rows(
            name=f"{name}_cosine_valid",
            function=partial(_cosine_valid, pair=pair),
            long_name=f"share of samples where {words} both have a direction",
            formula="#{i: |x_i| > 0 and |y_i| > 0} / N",
            source="definition",
            undefined="",
        ),
        _norm_ratio_of(signal, "|X|_F / |Y|_F"),
    )


_GRADIENT = SIGNALS["gradient"]
_of_pair = partial(Metric, kinds=("probe",), unfolds=False, source="definition")
_DESCENT = ("state/update", _GRADIENT.twin)

ALIGNMENT_METRICS: tuple[Metric, ...] = (
    *(metric for signal in ROW_SIGNALS if signal.twin for metric in _samplewise(signal)),
    *SUBSPACE_METRICS,
    _of_pair(
        name="jacobian_alignment",
        signals=("jacobian_cosine",),
        # A sample whose map is zero has no cosine: its record is NaN.
        null_signals=("jacobian_cosine",),
        function=_jacobian_mean,
        long_name="cosine of the backward maps with B and with W, mean over samples",
        formula=f"jacobian_cosine = <J_W, J_B>_F / (|J_W|_F |J_B|_F), J of one sample, from the outputs to "
        f"the layer, {_MEAN}",
        undefined=_NO_SAMPLE,
    ),
    _of_pair(
        name="gradient_cosine",
        signals=(_GRADIENT.name, _GRADIENT.twin),
        function=partial(vector_cosine, pair=(_GRADIENT.name, _GRADIENT.twin)),
        long_name="cosine of gradient and gradient_bp",
        formula="<G, G_bp>_F / (|G|_F |G_bp|_F)",
        source="Lillicrap et al. 2016",
        undefined=_ZEROS,
    ),
    _norm_ratio_of(_GRADIENT, "|G|_F / |G_bp|_F"),
    _of_pair(
        name="update_progress",
        signals=_DESCENT,
        function=partial(_descent_cosine, pair=_DESCENT),
        long_name="cosine of the applied update with steepest descent",
        formula="<-dW, G_bp>_F / (|dW|_F |G_bp|_F)",
        undefined=_ZEROS,
    ),
    _of_pair(
        name="update_loss_change",
        signals=_DESCENT,
        function=partial(_first_order_change, pair=_DESCENT),
        long_name="first-order change of the probe's loss by this layer's update",
        formula="<dW, G_bp>_F",
        units="loss",
    ),
)
