"""Compare a layer's error with finite differences of the loss between forward passes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.passes import Passes
from fadiag.capture.passes.tf32 import without_tf32
from fadiag.capture.tracing.layer_call import Call

__all__ = ["Differences", "Figures", "Place"]

_DIRECTIONS = 4
#: The largest effect of rounding on each figure at which the check can still decide.
_ALONG_ROUNDING, _RANDOM_ROUNDING = 0.025, 0.25
#: Roughly the largest of many standard Gaussian numbers.
_LARGEST_DRAW = 5
#: The effects of many kinks may partly cancel in one direction, so their trace counts several times.
_KINK_FACTOR = 3
#: A change of the loss by fewer rounding errors counts as 0.
_ULPS_OF_ZERO = 4

#: For each call, by name: the length of the step and the direction in which its output moves.
_Shifts = Mapping[str, tuple[float, Callable[[], Tensor]]]


@dataclass(frozen=True)
class Place:
    """The output of one call of a layer, and the recorded error there.

    Attributes
    ----------
    call : Call
    scale : float
        The root mean square of the output.
    norm, largest : float
        The norm of the error and the absolute value of its largest entry.
    resolved : float
        The smallest step, in units of the scale, at which rounding of the loss does not hide the figures.
    """

    call: Call
    scale: float
    norm: float
    largest: float
    resolved: float = math.inf

    @property
    def slope(self) -> float:
        """The derivative of the loss along the error scaled to a largest entry of 1."""
        return self.norm**2 / self.largest

    @property
    def name(self) -> str:
        """The name of the call."""
        return self.call.name

    @property
    def error(self) -> Tensor:
        """The recorded error, in float32 at least."""
        error = self.call.values["error"]
        return error.to(torch.promote_types(error.dtype, torch.float32))


@dataclass(frozen=True)
class Figures:
    """The two figures of the check, and how far rounding and kinks of the loss may move each.

    A ReLU whose input is exactly 0 is at its kink, for example behind dead units and a bias of 0. The central
    difference is then not autograd's derivative, and the one-sided differences are not equal.

    Attributes
    ----------
    along : float
        The difference of the loss along the error, over the squared norm of the error; 1 if it is right.
    random : float
        Along random directions v, the root mean square of (difference - <error, v>) / |error|; 0 if the error
        is right.
    along_slack, random_slack : float
    """

    along: float
    random: float
    along_slack: float
    random_slack: float


class Differences:
    """Differences of a probe's loss when the outputs of some calls move.

    Parameters
    ----------
    passes : Passes
    calls : sequence of Call
        The calls of the exact pass, with the errors to check.

    Attributes
    ----------
    places : list of Place
    is_stable : bool
        Whether two equal passes give the same loss.
    """

    def __init__(self, passes: Passes, calls: Sequence[Call]) -> None:
        self._passes = passes
        scales: dict[str, float] = {}

        def measure(layer: RecordedLayer, index: int, output: Tensor) -> None:
            # An output of zeros has no scale; 1 replaces it.
            scales[_name(layer, index)] = _norm(output) / math.sqrt(max(output.numel(), 1)) or 1.0

        with without_tf32():
            loss = passes.loss_with(measure)
            self._loss = float(loss)
            self.is_stable = bool(loss == passes.loss_with(lambda layer, index, output: None, only=()))
        places = [
            Place(call, scales[call.name], _norm(error), float(error.abs().max()))
            for call in calls
            if (error := call.values.get("error")) is not None and error.numel() and call.name in scales
        ]
        # Each output is rounded, and its error gives the effect of that rounding on the loss.
        of_outputs = sum(
            (torch.finfo(p.call.values["error"].dtype).eps * p.scale * p.norm) ** 2 for p in places
        )
        self._rounding = torch.finfo(loss.dtype).eps * abs(self._loss) + math.sqrt(of_outputs)
        self.places = [replace(place, resolved=self._resolved(place)) for place in places]

    def figures(self, places: Sequence[Place], etas: Sequence[float]) -> Figures:
        """Return the figures of places that move together; each has an equal share of the derivative.

        The largest entry of each step is at most ``eta`` times the root mean square of the output.
        """
        reach = [eta * place.scale for place, eta in zip(places, etas, strict=True)]
        share = min(r * place.slope for place, r in zip(places, reach, strict=True))
        shifts = {place.name: (share / place.slope, partial(_unit, place)) for place in places}
        expected = share * len(places)
        difference, kink = self._difference(shifts)
        along, along_slack = difference / expected, (self._rounding + kink) / expected
        found, kinks, shares = [], [], []
        for draw in range(_DIRECTIONS):
            drawn = [self._drawn(place, draw) for place in places]
            share = min(
                r * place.norm / float(v.abs().max())
                for place, r, v in zip(places, reach, drawn, strict=True)
            )
            claimed = sum(
                share * float((place.error * v).sum(dtype=torch.float64)) / place.norm
                for place, v in zip(places, drawn, strict=True)
            )
            del drawn  # large; drawn again where they are added
            difference, kink = self._difference(self._random_shifts(places, draw, share))
            found.append((difference - claimed) / share)
            kinks.append(kink / share)
            shares.append(share)
        return Figures(along, _rms(found), along_slack, self._rounding / min(shares) + _rms(kinks))

    def random_changes(self, places: Sequence[Place], eta: float) -> tuple[float, float]:
        """Return the root mean squares of the differences along random directions, and of their kinks.

        Differences within rounding count as 0.
        """
        found = []
        for draw in range(_DIRECTIONS):
            shifts = {
                place.name: (
                    eta * place.scale / float(self._drawn(place, draw).abs().max()),
                    partial(self._drawn, place, draw),
                )
                for place in places
            }
            found.append(self._difference(shifts))
        changes, kinks = (_rms(values) for values in zip(*found, strict=True))
        return 0.0 if changes <= _ULPS_OF_ZERO * self._rounding else changes, kinks

    def _resolved(self, place: Place) -> float:
        if not place.largest > 0:
            return math.inf
        along = self._rounding / (_ALONG_ROUNDING * place.scale * place.slope)
        return max(along, _LARGEST_DRAW * self._rounding / (_RANDOM_ROUNDING * place.scale * place.norm))

    def _random_shifts(self, places: Sequence[Place], draw: int, share: float) -> _Shifts:
        return {p.name: (share / p.norm, partial(self._drawn, p, draw)) for p in places}

    def _drawn(self, place: Place, draw: int) -> Tensor:
        """Return a random direction, the same at each call; it is not stored, to save memory."""
        error = place.error
        seed = (self._passes.seed + (place.call.order * _DIRECTIONS + draw + 1) * 1_000_003) % 2**63
        generator = torch.Generator(error.device).manual_seed(seed)
        return torch.randn(error.shape, generator=generator, device=error.device, dtype=error.dtype)

    def _difference(self, shifts: _Shifts) -> tuple[float, float]:
        """Return the central difference of the loss, and how far kinks may move it."""
        layers = {place.call.layer.name for place in self.places if place.name in shifts}

        def loss(sign: float) -> float:
            def change(layer: RecordedLayer, index: int, output: Tensor) -> Tensor | None:
                if (shift := shifts.get(_name(layer, index))) is None:
                    return None
                step, direction = shift
                # Not in place: autograd and the model may still need the output.
                return output + (sign * step * direction()).to(output.dtype)

            with without_tf32():
                return float(self._passes.loss_with(change, only=layers))

        forward, back = loss(1.0), loss(-1.0)
        return (forward - back) / 2, _KINK_FACTOR * abs(forward - 2 * self._loss + back) / 2


def _name(layer: RecordedLayer, index: int) -> str:
    return f"{layer.name}@{index}" if index else layer.name


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(x**2 for x in values) / len(values))


def _unit(place: Place) -> Tensor:
    """Return the error scaled to a largest entry of 1."""
    return place.error / place.largest


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))
