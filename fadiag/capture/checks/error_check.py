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

#: "zero": the error is 0 and so are the loss's differences, so that nothing can be said yet.
Verdict = Literal["passed", "inconclusive", "failed", "zero"]

#: With more layers at once, one that is wrong does not show among those that are right.
_GROUP = 7
_LARGEST_RANDOM = 0.25
#: Where the loss has kinks, only the larger step may be wrong: a failure needs both.
_LARGER_STEP = 3
#: The largest step, in units of the output's root mean square, and the largest one that may fail: with more,
#: a loss that bends could look wrong, but hardly right.
_LARGEST_STEP, _LARGEST_FAILING_STEP = 10.0, 0.3


@dataclass(frozen=True)
class ErrorCheck:
    """What came of the check of one call's error; see `Figures` for the two figures.

    A call that passed in a group of layers has the figures of the group.
    """

    verdict: Verdict
    along: float = nan
    random: float = nan


@dataclass(frozen=True)
class _Limits:
    """When a figure is right, and when it is certainly wrong."""

    eta: float
    along: float
    wrong_below: float
    wrong_above: float
    random_may_fail: bool

    def pass_(self, found: Figures) -> bool:
        return abs(found.along - 1) <= self.along and found.random < _LARGEST_RANDOM

    def along_is_wrong(self, found: Figures) -> bool:
        below, above = self.wrong_below - found.along_rounding, self.wrong_above + found.along_rounding
        return found.along < below or found.along > above

    def random_is_wrong(self, found: Figures) -> bool:
        return self.random_may_fail and found.random >= _LARGEST_RANDOM + found.random_rounding


_FULL = _Limits(eta=1e-3, along=0.05, wrong_below=0.95, wrong_above=1.05, random_may_fail=True)
#: With a larger step, since the loss does not show the smaller one: the curve of the loss counts more.
_COARSE = _Limits(eta=1e-3, along=0.05, wrong_below=0.5, wrong_above=2.0, random_may_fail=False)
_HALF = _Limits(eta=0.1, along=0.1, wrong_below=0.5, wrong_above=2.0, random_may_fail=False)


def check_errors(passes: Passes, calls: Sequence[Call]) -> Iterator[tuple[Call, ErrorCheck]]:
    """Yield each call with a verdict on its error, from the loss downwards.

    The first failure is then the one next to its cause. A group of `_GROUP` layers takes 10 forward passes,
    and 20 more for each of its layers if it is not right at once; 2 passes come before.

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
        changed = differences.random_changes(zeros, limits.eta) != 0
        for place in zeros:
            yield place.call, _zero(differences, place, limits) if changed else ErrorCheck("zero")
    known = {place.name for place in (*nonzero, *zeros)}
    for place in downwards:
        if place.name not in known:
            yield place.call, ErrorCheck("inconclusive")


def _step(place: Place, limits: _Limits) -> float:
    """Return the step of a call in units of its scale; 0 if none is large enough for the loss's rounding.

    A branch that adds little to a residual stream needs a larger one than a layer that all passes through.
    """
    if limits is _HALF:
        return limits.eta if place.largest > 0 else 0.0
    return max(limits.eta, place.resolved) if place.resolved <= _LARGEST_STEP else 0.0


def _alone(differences: Differences, place: Place, limits: _Limits) -> ErrorCheck:
    """Return the verdict on one call, moved alone."""
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

    At a kink (a dead unit that the step wakes) the change grows with the square of the step.
    """
    changes = [differences.random_changes([place], eta) for eta in (limits.eta, _LARGER_STEP * limits.eta)]
    if changes == [0, 0]:
        return ErrorCheck("zero")
    is_line = changes[0] > 0 and 2 < changes[1] / changes[0] < 4.5
    return ErrorCheck("failed" if is_line and limits.random_may_fail else "inconclusive", 0.0)
