"""Measure whether two signals share their leading directions."""

from functools import partial

import numpy as np

from fadiag import spectra
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import DRAWN_VERSION, drawn_nulls
from fadiag.analysis.metrics.view import View
from fadiag.errors import MissingSignalError
from fadiag.signals import SIGNALS, nulls_of

__all__ = ["SUBSPACE_METRICS"]

_PAIR = ("error", SIGNALS["error"].twin)
_NO_SUBSPACE = "error or error_bp is zero: it has no subspace"


def _k(view: View) -> int:
    if view.layer.k is None:
        raise MissingSignalError(
            "the dimension k of the compared subspaces is not known: the run states no number of classes and "
            "did not record its last layer; give it, analyze(k=...) or --k"
        )
    rows, columns = view.matrix(_PAIR[0]).shape[-2:]
    return int(min(view.layer.k, rows, columns))


def _bases(view: View) -> tuple[Values, Values]:
    """Return the leading k right directions (step, columns, k) of both signals."""
    x, y = (view.matrix(signal) for signal in _PAIR)
    return view.keep("bases", lambda: (spectra.right_basis(x, _k(view)), spectra.right_basis(y, _k(view))))


def _overlap(view: View) -> Values:
    x, y = _bases(view)
    # A signal of zeros has no subspace, so its overlap is NaN and not 0.
    alive = x.any(axis=(-2, -1)) & y.any(axis=(-2, -1))
    return np.where(alive, spectra.overlap_of_bases(x, y), np.nan)


def _chance(view: View) -> Values:
    return np.full(len(view.steps), spectra.overlap_moments(view.shape(_PAIR[0])[1], _k(view)).mean)


def _chance_std(view: View) -> Values:
    return np.full(len(view.steps), spectra.overlap_moments(view.shape(_PAIR[0])[1], _k(view)).std)


def _dimension(view: View) -> Values:
    return np.full(len(view.steps), float(_k(view)))


def _angle(view: View, *, which: int) -> Values:
    """Return one principal angle in degrees; NaN if a signal has fewer than k directions."""

    def angles() -> Values:
        x, y = _bases(view)
        whole = x.any(axis=-2).all(axis=-1) & y.any(axis=-2).all(axis=-1)
        found = np.full((len(view.steps), x.shape[-1]), np.nan)
        if whole.any():
            found[whole] = np.degrees(spectra.principal_angles_of_bases(x[whole], y[whole]))
        return found

    return view.keep("principal angles", angles)[:, which]


_subspace = partial(
    Metric, kinds=("probe",), signals=_PAIR, source="definition", centered=False, of_subspaces=True
)
_principal = partial(
    _subspace,
    units="degree",
    source="Björck and Golub 1973",
    undefined="error or error_bp has fewer than k directions",
)

SUBSPACE_METRICS: tuple[Metric, ...] = (
    _subspace(
        name="error_overlap",
        function=_overlap,
        long_name="overlap of the leading right subspaces of error and error_bp",
        formula="|U_k^T V_k|_F^2 / k",
        null=partial(drawn_nulls, signal=_PAIR[0], statistic="overlap"),
        null_signals=tuple(nulls_of(_PAIR[0], "overlap").values()),
        undefined=_NO_SUBSPACE,
        version=DRAWN_VERSION + 1,
    ),
    _subspace(
        name="error_overlap_chance",
        function=_chance,
        long_name="mean overlap with a uniformly drawn subspace: a scale, not a null under shared gates",
        formula="k / columns",
    ),
    _subspace(
        name="error_overlap_dimension",
        function=_dimension,
        long_name="dimension of the subspaces that error_overlap compares",
        formula="min(k, rows, columns)",
    ),
    _subspace(
        name="error_overlap_chance_std",
        function=_chance_std,
        long_name="standard deviation of the overlap with a uniformly drawn subspace: a scale",
        formula="sqrt(2 (n - k)^2 / (n^2 (n - 1) (n + 2))), n columns",
    ),
    _principal(
        name="error_principal_angle_smallest",
        function=partial(_angle, which=0),
        formula="arccos s, s the largest singular value of U_k^T V_k",
        long_name="smallest principal angle of the subspaces that error_overlap compares",
    ),
    _principal(
        name="error_principal_angle_largest",
        function=partial(_angle, which=-1),
        formula="arccos s, s the smallest singular value of U_k^T V_k",
        long_name="largest principal angle of the subspaces that error_overlap compares",
    ),
)
