"""Measure weights: how far they moved, how exact the recorded updates are, and whether W aligns with B."""

from functools import partial

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.alignment import norm_ratio, ratio, vector_cosine
from fadiag.analysis.metrics.metric import OF_ZEROS, Metric, Values
from fadiag.analysis.metrics.nulls import REORDERED, reordered_angle_null, reordered_cosine_null
from fadiag.analysis.metrics.view import View

__all__ = ["WEIGHT_METRICS"]

_WB = ("weight", "static/feedback")
_W0 = ("weight", "static/weight_init")
_FLOOR = "sqrt(sum spacing(W)^2 / 12) / |dW|_F"


def _angle(view: View) -> Values:
    return np.asarray(np.degrees(spectra.angle(*(view.flat(s) for s in _WB))))


def _sign_agreement(view: View) -> Values:
    return np.asarray(np.mean(np.sign(view.flat(_WB[0])) == np.sign(view.flat(_WB[1])), axis=-1))


def _displacement(view: View) -> Values:
    """Return W - W_0 in float64, which is exact for float32 weights of similar size."""

    def difference() -> Values:
        weight, start = (view.matrix(s).astype(np.float64) for s in _W0)
        return weight - start

    return view.keep("displacement", difference)


def _displacement_participation(view: View) -> Values:
    return spectra.participation_ratio(_displacement(view))


def _displacement_effective(view: View) -> Values:
    return spectra.effective_rank(_displacement(view))


def _displacement_norm(view: View) -> Values:
    start = np.linalg.norm(view.flat("static/weight_init").astype(np.float64), axis=-1)
    moved = np.linalg.norm(_displacement(view), axis=(-2, -1))
    return ratio(moved, start)


def _rounding_floor(view: View) -> Values:
    """Return the share of the update that is rounding of the weight.

    A recorded floor is preferred: a bfloat16 weight is stored as float32, whose spacing is finer.
    """
    if "update_rounding_floor" in view.signals:
        return view.values("update_rounding_floor").astype(np.float64)
    return spectra.rounding_floor(view.matrix("weight"), view.matrix("update"))


def _trustworthy(view: View) -> Values:
    floor = _rounding_floor(view)
    return np.where(np.isnan(floor), np.nan, (floor <= spectra.ROUNDING_LIMIT).astype(np.float64))


def _bound(view: View) -> int:
    return min(view.shape("weight"))


_state = partial(Metric, kinds=("state",), unfolds=False)
_of_feedback = partial(_state, signals=_WB, layers="layerwise")
_of_rounding = partial(
    _state,
    signals=("update", "weight"),
    null_signals=("update_rounding_floor",),
    source="definition",
    undefined="the update is zero",
)

WEIGHT_METRICS: tuple[Metric, ...] = (
    _of_feedback(
        "weight_feedback_cosine",
        function=partial(vector_cosine, pair=_WB),
        long_name="cosine of weight and feedback",
        formula="<W, B>_F / (|W|_F |B|_F)",
        source="Lillicrap et al. 2016",
        undefined="a matrix of zeros has no direction",
        null=reordered_cosine_null,
        null_definition=REORDERED,
        version=3,
    ),
    _of_feedback(
        "weight_feedback_angle",
        function=_angle,
        long_name="angle between weight and feedback",
        formula="arccos cos(vec W, vec B)",
        source="Lillicrap et al. 2016",
        undefined="a matrix of zeros has no direction",
        units="degree",
        null=reordered_angle_null,
        null_definition=REORDERED,
        version=3,
    ),
    _of_feedback(
        "weight_feedback_norm_ratio",
        function=partial(norm_ratio, pair=("static/feedback", "weight")),
        long_name="norm of feedback over norm of weight",
        formula="|B|_F / |W|_F",
        source="definition",
        undefined="the weight is zero",
    ),
    _of_feedback(
        "weight_feedback_sign_agreement",
        function=_sign_agreement,
        long_name="share of entries where weight and feedback have the same sign",
        formula="#{ij: sign W_ij = sign B_ij} / size",
        source="Liao et al. 2016",
    ),
    _state(
        "weight_displacement_participation_ratio_raw",
        signals=_W0,
        function=_displacement_participation,
        long_name="participation ratio of W - W_0",
        formula=f"(sum s^2)^2 / sum s^4, s of W - W_0{OF_ZEROS}",
        source="Gao et al. 2017",
        centered=False,
        bound=_bound,
        bound_formula="min(rows, columns)",
    ),
    _state(
        "weight_displacement_effective_rank_raw",
        signals=_W0,
        function=_displacement_effective,
        long_name="effective rank (Roy-Vetterli) of W - W_0",
        formula=f"exp(-sum q ln q), q = s / sum s, s of W - W_0{OF_ZEROS}",
        source="Roy and Vetterli 2007",
        centered=False,
        bound=_bound,
        bound_formula="min(rows, columns)",
    ),
    _state(
        "weight_displacement_relative_norm",
        signals=_W0,
        function=_displacement_norm,
        long_name="norm of W - W_0 over norm of W_0",
        formula="|W - W_0|_F / |W_0|_F",
        source="definition",
        undefined="the first weight is zero",
    ),
    _of_rounding(
        "update_rounding_floor",
        function=_rounding_floor,
        long_name="share of the recorded update that is rounding of the weight",
        formula=_FLOOR,
    ),
    _of_rounding(
        "update_trustworthy",
        function=_trustworthy,
        long_name=f"1 where the update's rounding floor is at most {spectra.ROUNDING_LIMIT:g}, so that its "
        "ranks can be trusted",
        formula=f"{_FLOOR} <= {spectra.ROUNDING_LIMIT:g}",
    ),
)
