"""Measure paths: products of all weights above, pseudo-backprop, and alignment under direct feedback.

These metrics read the signals of other layers (see `fadiag.analysis.metrics.signal_refs`), so they need
layers that form a chain.
"""

from functools import partial
from itertools import takewhile

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.alignment import over_valid
from fadiag.analysis.metrics.metric import OF_ZEROS, Metric, Values
from fadiag.analysis.metrics.signal_refs import parse
from fadiag.analysis.metrics.view import View

__all__ = ["PATH_METRICS"]

_DEAD = "a product of zeros has no direction"
_WEIGHTS, _FEEDBACKS = "above*/weight", "above*/static/feedback"
_DIRECT = ("weight", "static/feedback", "below/static/feedback")
_MATRIX = ("weight", "static/weight_init", "static/feedback", "below/static/feedback")
_MATRIX_WORDS = f"A = (F_l^T)^+ dW F_(l-1)^+, dW = W_l - W_l(0), rcond {spectra.PINV_RCOND:g}"


def _above(view: View, signal: str) -> list[Values]:
    """Return the matrices of a signal ``above*/...`` in every layer above, the nearest first."""
    names = map(str, parse(signal).expanded(len(view.signals)))
    return [view.matrix(name) for name in takewhile(view.signals.__contains__, names)]


def _path(view: View) -> Values:
    return spectra.path_alignment(_above(view, _WEIGHTS), _above(view, _FEEDBACKS))


def _direct_path(view: View) -> Values:
    return spectra.path_alignment(_above(view, _WEIGHTS), [view.matrix("static/feedback")])


def _pseudo_cosine(view: View) -> Values:
    """Return the mean cosine of the modulator with delta (W^+)^T of the layer above."""
    sent = spectra.pseudo_backprop(view.matrix("above/error"), view.matrix("above/state/weight"))
    return over_valid(spectra.cosine(view.matrix("modulator"), sent), "mean")


def _direct_cosine(view: View) -> Values:
    return spectra.direct_weight_cosine(*map(view.matrix, _DIRECT))


def _output_cosine(view: View) -> Values:
    return spectra.matrix_cosine(view.matrix("weight"), view.matrix("below/static/feedback"))


def _alignment_matrix(view: View) -> spectra.AlignmentMatrix:
    matrices = map(view.matrix, _MATRIX)
    return view.keep(
        "alignment matrix", lambda: spectra.alignment_matrix(*matrices, rcond=spectra.PINV_RCOND)
    )


def _residual(view: View) -> Values:
    return _alignment_matrix(view).residual


def _identity_cosine(view: View) -> Values:
    matrix = _alignment_matrix(view).matrix
    out = np.full(len(matrix), np.nan)
    given = np.isfinite(matrix).all(axis=(-2, -1))
    if given.any():
        out[given] = spectra.matrix_cosine(matrix[given], np.eye(matrix.shape[-1]))
    return out


_state = partial(Metric, kinds=("state",), unfolds=False, undefined=_DEAD)
_REFINETTI = "Refinetti et al. 2021"

PATH_METRICS: tuple[Metric, ...] = (
    _state(
        "path_alignment",
        signals=(_WEIGHTS, _FEEDBACKS),
        function=_path,
        long_name="cosine of the product of all weights above with their feedbacks' (linear nets only)",
        formula="cos(vec W_L ... W_(l+1), vec B_L ... B_(l+1))",
        source="definition",
        layers="below layerwise",
    ),
    _state(
        "path_alignment_direct",
        signals=(_WEIGHTS, "static/feedback"),
        function=_direct_path,
        long_name="cosine of the product of all weights above with the direct feedback (linear nets only)",
        formula="cos(vec W_L ... W_(l+1), vec F_l)",
        source="definition",
        layers="direct",
    ),
    Metric(
        "modulator_pseudo_cosine",
        kinds=("probe",),
        signals=("modulator", "above/error", "above/state/weight"),
        function=_pseudo_cosine,
        long_name="cosine of modulator and pseudo-backprop's, mean over samples "
        "(local, but for the layer below a linear output)",
        formula=f"x_i . y_i / (|x_i| |y_i|), Y = delta_(l+1) (W_(l+1)^+)^T, rcond {spectra.PINV_RCOND:g}",
        source="Lillicrap et al. 2016",
        unfolds=False,
        needs="values",
        layers="below layerwise",
        undefined="no sample where both have a direction",
    ),
    _state(
        "weight_feedback_cosine_direct",
        signals=_DIRECT,
        function=_direct_cosine,
        long_name="cosine of weight and the product of the direct feedbacks around it",
        formula="cos(vec W_l, vec F_l^T F_(l-1))",
        source=_REFINETTI,
        layers="above direct",
    ),
    _state(
        "weight_feedback_cosine_direct_output",
        signals=("weight", "below/static/feedback"),
        function=_output_cosine,
        long_name="cosine of the output's weight and the direct feedback of the layer below",
        formula="cos(vec W_L, vec F_(L-1))",
        source=_REFINETTI,
        layers="output above direct",
    ),
    _state(
        "alignment_matrix_residual",
        signals=_MATRIX,
        function=_residual,
        long_name="share of the weight's change that the alignment matrix does not explain",
        formula=f"|dW - F_l^T A F_(l-1)|_F / |dW|_F, {_MATRIX_WORDS}{OF_ZEROS}",
        source=_REFINETTI,
        layers="above direct",
        undefined="",
    ),
    _state(
        "alignment_matrix_identity_cosine",
        signals=_MATRIX,
        function=_identity_cosine,
        long_name="cosine of the alignment matrix and the identity: 1 where the credit is backprop's",
        formula=f"tr A / (|A|_F sqrt(outputs)), {_MATRIX_WORDS}",
        source=_REFINETTI,
        layers="above direct",
        undefined="a residual above 0.1 (the change is not of the form F_l^T A F_(l-1)), "
        "or a weight that has not moved",
    ),
)
