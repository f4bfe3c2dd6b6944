"""Find the onset of a statistic in a run, and the median onset over runs, some without an onset."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fadiag.errors import InputError
from fadiag.spectra.validate import Floats, as_real, as_sample, require_finite

__all__ = ["KaplanMeier", "Onset", "kaplan_meier", "onset", "onset_threshold"]

_ALPHA = 0.05


class Onset(NamedTuple):
    """Step of the onset; without an onset, the last recorded step and ``observed`` False (censored).

    Examples
    --------
    >>> Onset(step=60, observed=False).observed
    False
    """

    step: int
    observed: bool


def onset_threshold(null: ArrayLike) -> Floats:
    """Return the threshold of `onset` from redrawn feedback: the 1 - 0.05/T quantile at each of T steps.

    Parameters
    ----------
    null : array_like (T, M)
        M draws of the statistic at each recorded step.

    Returns
    -------
    array (T,), float64

    Raises
    ------
    InputError
        M + 1 < T / 0.05: the quantile needs more draws.

    Examples
    --------
    >>> import numpy as np
    >>> onset_threshold(np.arange(200.0).reshape(2, 100))
    array([ 97.475, 197.475])
    """
    draws = as_sample(null, "null", ndim=2)
    steps, count = draws.shape
    if steps == 0 or count + 1 < steps / _ALPHA:
        raise InputError(
            f"null holds {count} draws at {steps} steps; the 1 - 0.05/{steps} quantile needs "
            f"{round(steps / _ALPHA) - 1} draws or more: redraw more often, judge "
            "fewer steps, or pass a threshold from a known law (cosine_null_quantile)"
        )
    # "weibull" is the order statistic of rank (M + 1)(1 - alpha/T): a new draw exceeds it with probability
    # alpha/T.
    return np.asarray(np.quantile(draws, 1 - _ALPHA / steps, axis=1, method="weibull"))


def onset(values: ArrayLike, threshold: ArrayLike, steps: ArrayLike) -> Onset:
    """Return the first step of max(5, 5 % of T) consecutive recordings above the threshold.

    Parameters
    ----------
    values : array_like (T,)
        The statistic, one value per recording. NaN (no statistic) counts as not above.
    threshold : array_like (T,) or scalar
        The result of `onset_threshold`, or the 1 - 0.05/T quantile of a known distribution.
    steps : array_like (T,)
        Increasing step numbers.

    Returns
    -------
    Onset

    Raises
    ------
    InputError
        The input has fewer than five recordings, the shapes differ, or the steps do not increase.

    Examples
    --------
    >>> onset([0, 0, 1, 1, 1, 1, 1], 0.5, [0, 10, 20, 30, 40, 50, 60])
    Onset(step=20, observed=True)
    """
    seen, bar, at = as_real(values, "values"), as_real(threshold, "threshold"), as_sample(steps, "steps")
    require_finite(bar, "threshold")
    if seen.shape != at.shape or bar.shape not in ((), at.shape):
        raise InputError(
            f"values {seen.shape}, threshold {bar.shape} and steps {at.shape} must have one length"
        )
    need = max(5, int(np.ceil(0.05 * len(at))))
    if len(at) < need:
        raise InputError(
            f"values holds {len(at)} recordings; an onset needs at least {need}: record more often"
        )
    if (np.diff(at) <= 0).any():
        raise InputError("steps do not increase; sort the recordings by step")
    above = np.lib.stride_tricks.sliding_window_view(seen > bar, need).all(axis=-1)
    if above.any():
        return Onset(int(at[np.argmax(above)]), True)
    return Onset(int(at[-1]), False)


class KaplanMeier(NamedTuple):
    """Share of runs without an onset after each onset time, and the median (infinite if not reached).

    Examples
    --------
    >>> found = kaplan_meier([10, 20], [True, True])
    >>> found.times.tolist(), found.survival.tolist()
    ([10.0, 20.0], [0.5, 0.0])
    """

    times: Floats
    survival: Floats
    median: float


def kaplan_meier(times: ArrayLike, observed: ArrayLike) -> KaplanMeier:
    """Return the Kaplan-Meier estimate over runs, including censored runs, which a mean would drop.

    Parameters
    ----------
    times : array_like (runs,)
        Step of the onset, or of the last recording.
    observed : array_like (runs,)
        False where the run was censored.

    Returns
    -------
    KaplanMeier

    Raises
    ------
    InputError
        The inputs are empty, or the shapes differ.

    References
    ----------
    E. L. Kaplan and P. Meier, "Nonparametric estimation from incomplete observations", 1958.

    Examples
    --------
    >>> kaplan_meier([10, 20, 30, 30], [True, True, False, False]).median
    20.0
    """
    at, seen = as_sample(times, "times"), as_real(observed, "observed") != 0
    if at.size == 0 or at.shape != seen.shape:
        raise InputError(f"times has shape {at.shape} and observed {seen.shape}; one of each a run")
    events = np.unique(at[seen])
    at_risk = (at[:, None] >= events).sum(axis=0)
    died = (at[seen][:, None] == events).sum(axis=0)
    survival = np.cumprod(1 - died / at_risk)
    # A survival of exactly one half must count despite rounding.
    reached = survival <= 0.5 + 1e-12
    median = float(events[np.argmax(reached)]) if reached.any() else np.inf
    return KaplanMeier(events, survival, median)
