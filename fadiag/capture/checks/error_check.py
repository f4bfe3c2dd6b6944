"""Check that error_bp is the derivative of the loss at each layer's output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Literal

from fadiag.capture.checks.finite_differences import Differences, Figures, Place
from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.arrays import HALF
from fadiag.capture.tracing.layer_call import Call

__all__ = ["ErrorCheck", "Verdict", "check_errors"]

#: "zero": the error and the differences of the loss are 0, so the check decides nothing yet.
Verdict = Literal["passed", "inconclusive", "failed", "zero"]

#: The number of layers checked at once. In a larger group, one wrong error is hidden by the right ones.
_GROUP = 7
_LARGEST_RANDOM = 0.25
#: The factor of a second, larger step. At kinks of the loss only one step may be wrong; a failure needs both.
_LARGER_STEP = 3
#: The largest step, and the largest step at which a check may fail, both in units of the output's root mean
#: square. At larger steps, a curved loss may make a right error look wrong, but hardly a wrong error right.
_LARGEST_STEP, _LARGEST_FAILING_STEP = 10.0, 0.3


@dataclass(frozen=True)
class ErrorCheck:
    """The result of the check of one call's error; see `Figures` for the two figures.

    If a group of layers passed together, each of its calls has the figures of the group.
    """

    verdict: Verdict
    along: float = nan
    random: float = nan


@dataclass(frozen=True)
class _Limits:
    """The limits within which a figure is right, and beyond which it is certainly wrong."""

    eta: float
    along: float
    wrong_below: float
    wrong_above: float
    random_may_fail: bool

    def pass_(self, found: Figures) -> bool:
        return abs(found.along - 1) <= self.along and found.random < _LARGEST_RANDOM

    def along_is_wrong(self, found: Figures) -> bool:
        below, above = self.wrong_below - found.along_slack, self.wrong_above + found.along_slack
        return found.along < below or found.along > above

    def random_is_wrong(self, found: Figures) -> bool:
        return self.random_may_fail and found.random >= _LARGEST_RANDOM + found.random_slack


_FULL = _Limits(eta=1e-3, along=0.05, wrong_below=0.95, wrong_above=1.05, random_may_fail=True)
#: For a larger step, used if rounding hides the smaller one: the curvature of the loss matters more.
_COARSE = _Limits(eta=1e-3, along=0.05, wrong_below=0.5, wrong_above=2.0, random_may_fail=False)
_HALF = _Limits(eta=0.1, along=0.1, wrong_below=0.5, wrong_above=2.0, random_may_fail=False)


def check_errors(passes: Passes, calls: Sequence[Call]) -> Iterator[tuple[Call, ErrorCheck]]:
    """Yield each call with a verdict on its error, from the loss downwards.

    The first failure is then the nearest to its cause. The check starts with 2 forward passes. A group of
    `_GROUP` layers takes 10; if the group does not pass, each of its layers takes up to 20 more.

    Parameters
    ----------
    passes : Passes
    calls : sequence of Call
        The calls of the exact pass, with their errors.
    """
    differences = Differences(passes, calls)
    is_half = any(place.call.values["error"].dtype in HALF for place in differences.places)
    limits = _HALF if is_half else _FULL
    downwards = differences.places[::-1]
    nonzero, zeros = list[Place](), list[Place]()
    if differences.is_stable:
        nonzero = [place for place in downwards if isfinite(place.norm) and _step(place, limits) > 0]
        zeros = [place for place in downwards if place.largest == 0]
    for start in range(0, len(nonzero), _GROUP):
        group = nonzero[start : start + _GROUP]
        found = differences.figures(group, [_step(place, limits) for place in group])
        for place in group:
            if limits.pass_(found):
                yield place.call, ErrorCheck("passed", found.along, found.random)
            else:
                yield place.call, _alone(differences, place, limits)
    if zeros:
        changed = differences.random_changes(zeros, limits.eta)[0] != 0
        for place in zeros:
            yield place.call, _zero(differences, place, limits) if changed else ErrorCheck("zero")
    known = {place.name for place in (*nonzero, *zeros)}
    for place in downwards:
        if place.name not in known:
            yield place.call, ErrorCheck("inconclusive")


def _step(place: Place, limits: _Limits) -> float:
    """Return the step of a call in units of its scale; 0 if rounding of the loss hides every step.

    A branch that adds little to a residual stream needs a larger step than a layer on the only path.
    """
    if limits is _HALF:
        return limits.eta if place.largest > 0 else 0.0
    return max(limits.eta, place.resolved) if place.resolved <= _LARGEST_STEP else 0.0


def _alone(differences: Differences, place: Place, limits: _Limits) -> ErrorCheck:
    """Return the verdict on one call from a check of this call alone."""
    eta = _step(place, limits)
    limits = _COARSE if limits is _FULL and eta > limits.eta else limits
    found = differences.figures([place], [eta])
    if limits.pass_(found):
        return ErrorCheck("passed", found.along, found.random)
    verdict: Verdict = "inconclusive"
    if eta > _LARGEST_FAILING_STEP:
        return ErrorCheck(verdict, found.along, found.random)
    if limits.along_is_wrong(found) or limits.random_is_wrong(found):
        larger = differences.figures([place], [_LARGER_STEP * eta])
        for is_wrong in (limits.along_is_wrong, limits.random_is_wrong):
            if is_wrong(found) and is_wrong(larger):
                verdict = "failed"
    return ErrorCheck(verdict, found.along, found.random)


def _zero(differences: Differences, place: Place, limits: _Limits) -> ErrorCheck:
    """Return the verdict on an error of 0: wrong if the loss changes in proportion to the step.

    If the step wakes a dead unit, the change grows with the square of the step. If a unit is at its kink, the
    one-sided differences are not equal.
    """
    small, kinks = differences.random_changes([place], limits.eta)
    large, _ = differences.random_changes([place], _LARGER_STEP * limits.eta)
    if small == large == 0:
        return ErrorCheck("zero")
    is_line = small > kinks and 2 < large / small < 4.5
    return ErrorCheck("failed" if is_line and limits.random_may_fail else "inconclusive", 0.0)
