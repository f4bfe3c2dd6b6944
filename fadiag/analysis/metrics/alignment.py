"""The metrics of two signals: whether the credit that a layer receives points where the true one does."""

from functools import partial

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import DRAWN_VERSION, drawn_null
from fadiag.analysis.metrics.view import View

__all__ = ["ALIGNMENT_METRICS", "norm_ratio", "over_valid", "ratio", "vector_cosine"]

_NO_SAMPLE = "no sample where both have a direction"
_ZEROS = "a signal of zeros has no direction"
_SAMPLES = "mean over the samples where both have a direction"


def _rows(view: View, signal: str) -> Values:
    """Return one vector a sample, whatever the unfolding."""
    values = view.values(signal)
    return values.reshape(*values.shape[:2], -1)


def _cosines(view: View, pair: tuple[str, str]) -> Values:
    """Return the cosine of each sample (step, sample); NaN where one of the two has no direction."""
    recorded = f"{pair[0]}_cosine"
    if recorded in view.signals:
        return view.values(recorded).astype(np.float64)
    return view.keep(("cosine", pair), lambda: spectra.cosine(_rows(view, pair[0]), _rows(view, pair[1])))


def over_valid(cosines: Values, statistic: str) -> Values:
    """Apply mean or median to the valid samples of each step; NaN where a step has none."""
    out = np.full(len(cosines), np.nan)
    for i, row in enumerate(cosines):
        valid = row[~np.isnan(row)]
        if valid.size:
            out[i] = np.mean(valid) if statistic == "mean" else np.median(valid)
    return out


def _cosine_mean(view: View, *, pair: tuple[str, str]) -> Values:
    return over_valid(_cosines(view, pair), "mean")


def _cosine_median(view: View, *, pair: tuple[str, str]) -> Values:
    return over_valid(_cosines(view, pair), "median")


def _cosine_valid(view: View, *, pair: tuple[str, str]) -> Values:
    return np.asarray(np.mean(~np.isnan(_cosines(view, pair)), axis=-1))


def ratio(above: Values, below: Values) -> Values:
    """Return above / below of each step; NaN where the second is zero. A static norm serves all steps."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def norm_ratio(view: View, *, pair: tuple[str, str]) -> Values:
    """Return the norm of the first signal over that of the second; NaN where the second is zero."""
    above, below = (np.linalg.norm(view.flat(s).astype(np.float64), axis=-1) for s in pair)
    return ratio(above, below)


def vector_cosine(view: View, *, pair: tuple[str, str]) -> Values:
    """Return the cosine of the two signals of each step, each taken as one vector."""
    return view.keep(("vector cosine", pair), lambda: spectra.cosine(view.flat(pair[0]), view.flat(pair[1])))


def _jacobian_mean(view: View) -> Values:
    return over_valid(view.values("jacobian_cosine").astype(np.float64), "mean")


def _descent_cosine(view: View) -> Values:
    return -vector_cosine(view, pair=("state/update", "gradient_bp"))


def _first_order_change(view: View) -> Values:
    update, gradient = (view.flat(s).astype(np.float64) for s in ("state/update", "gradient_bp"))
    return np.asarray(np.einsum("si,si->s", update, gradient))


def _overlap(view: View, *, pair: tuple[str, str]) -> Values:
    x, y = view.matrix(pair[0]), view.matrix(pair[1])
    shared = spectra.overlap(x, y, _k(view, pair))
    # A dead signal has no subspace: to call it one that overlaps with nothing would be a number too many.
    return np.where(x.any(axis=(-2, -1)) & y.any(axis=(-2, -1)), shared, np.nan)


def _k(view: View, pair: tuple[str, str]) -> int:
    rows, columns = view.matrix(pair[0]).shape[-2:]
    return int(min(view.layer.k, rows, columns))


def _chance(view: View, *, pair: tuple[str, str]) -> Values:
    return np.full(len(view.steps), _k(view, pair) / view.columns(pair[0]))


def _dimension(view: View, *, pair: tuple[str, str]) -> Values:
    return np.full(len(view.steps), float(_k(view, pair)))


def _samplewise(signal: str, kinds: tuple[str, ...]) -> list[Metric]:
    pair = (signal, f"{signal}_bp")
    of_rows = partial(Metric, kinds=kinds, signals=pair, needs="rows", beside=(f"{signal}_cosine",))
    null = partial(drawn_null, signal=f"{signal}_null_cosine") if signal == "error" else None
    words = f"{signal} and {signal}_bp"
    formula = f"x_i . y_i / (|x_i| |y_i|), {_SAMPLES}"
    return [
        of_rows(
            name=f"{signal}_cosine",
            function=partial(_cosine_mean, pair=pair),
            long_name=f"cosine of {words}, mean over samples",
            formula=formula,
            source="Lillicrap et al. 2016",
            undefined=_NO_SAMPLE,
            null=null,
            null_signals=(f"{signal}_null_cosine",) if null else (),
            version=DRAWN_VERSION if null else 1,
        ),
        of_rows(
            name=f"{signal}_cosine_median",
            function=partial(_cosine_median, pair=pair),
            long_name=f"cosine of {words}, median over samples",
            formula=formula.replace("mean", "median"),
            source="Lillicrap et al. 2016",
            undefined=_NO_SAMPLE,
        ),
        of_rows(
            name=f"{signal}_cosine_valid",
            function=partial(_cosine_valid, pair=pair),
            long_name=f"share of samples where {words} both have a direction",
            formula="#{i: |x_i| > 0 and |y_i| > 0} / N",
            source="definition",
        ),
        Metric(
            name=f"{signal}_norm_ratio",
            function=partial(norm_ratio, pair=pair),
            long_name=f"norm of {signal} over norm of {signal}_bp",
            formula="|X|_F / |Y|_F",
            source="definition",
            undefined=f"{signal}_bp is zero",
            kinds=kinds,
            signals=pair,
        ),
    ]


_ERROR_PAIR = ("error", "error_bp")
_GRADIENT_PAIR = ("gradient", "gradient_bp")

ALIGNMENT_METRICS: tuple[Metric, ...] = (
    *_samplewise("error", ("probe",)),
    *_samplewise("modulator", ("probe",)),
    Metric(
        name="error_overlap",
        kinds=("probe",),
        signals=_ERROR_PAIR,
        function=partial(_overlap, pair=_ERROR_PAIR),
        long_name="overlap of the leading right subspaces of error and error_bp",
        formula="|U_k^T V_k|_F^2 / k",
        source="definition",
        centered=False,
        null=partial(drawn_null, signal="error_null_overlap"),
        null_signals=("error_null_overlap",),
        undefined="error or error_bp is zero: it has no subspace",
        version=DRAWN_VERSION + 1,
    ),
    Metric(
        name="error_overlap_chance",
        kinds=("probe",),
        signals=_ERROR_PAIR,
        function=partial(_chance, pair=_ERROR_PAIR),
        long_name="mean overlap with a uniformly drawn subspace: a mark of scale, no null under shared gates",
        formula="k / columns",
        source="definition",
        centered=False,
    ),
    Metric(
        name="error_overlap_dimension",
        kinds=("probe",),
        signals=_ERROR_PAIR,
        function=partial(_dimension, pair=_ERROR_PAIR),
        long_name="dimension of the subspaces that error_overlap compares",
        formula="min(k, rows, columns)",
        source="definition",
        centered=False,
    ),
    Metric(
        name="jacobian_alignment",
        kinds=("probe",),
        signals=("jacobian_cosine",),
        # A sample whose map is zero has no cosine, and is recorded so.
        null_signals=("jacobian_cosine",),
        function=_jacobian_mean,
        long_name="cosine of the backward maps with B and with W, mean over samples",
        formula="<J_W, J_B>_F / (|J_W|_F |J_B|_F), J from the outputs to the layer of one sample",
        source="definition",
        undefined=_NO_SAMPLE,
    ),
    Metric(
        name="gradient_cosine",
        kinds=("probe",),
        signals=_GRADIENT_PAIR,
        function=partial(vector_cosine, pair=_GRADIENT_PAIR),
        long_name="cosine of gradient and gradient_bp",
        formula="<G, G_bp>_F / (|G|_F |G_bp|_F)",
        source="Lillicrap et al. 2016",
        undefined=_ZEROS,
    ),
    Metric(
        name="gradient_norm_ratio",
        kinds=("probe",),
        signals=_GRADIENT_PAIR,
        function=partial(norm_ratio, pair=_GRADIENT_PAIR),
        long_name="norm of gradient over norm of gradient_bp",
        formula="|G|_F / |G_bp|_F",
        source="definition",
        undefined="gradient_bp is zero",
    ),
    Metric(
        name="update_progress",
        kinds=("probe",),
        signals=("state/update", "gradient_bp"),
        function=_descent_cosine,
        long_name="cosine of the applied update with steepest descent",
        formula="<-dW, G_bp>_F / (|dW|_F |G_bp|_F)",
        source="definition",
        undefined=_ZEROS,
    ),
    Metric(
        name="update_loss_change",
        kinds=("probe",),
        signals=("state/update", "gradient_bp"),
        function=_first_order_change,
        long_name="first-order change of the probe's loss by this layer's update",
        formula="<dW, G_bp>_F",
        source="definition",
        units="loss",
    ),
)
