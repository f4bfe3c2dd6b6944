"""Build the readers of a recording: probes, state and live signals, each with its schedule."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fadiag.capture.arguments import names_of
from fadiag.capture.checks.probe_checks import CheckMode
from fadiag.capture.layers.selection import in_order
from fadiag.capture.session.attached import AttachedModel
from fadiag.capture.streams.learned_feedback import check_learned_feedback
from fadiag.capture.streams.live import Live
from fadiag.capture.streams.live_reader import LiveReader
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.probe_reader import ProbeReader
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.streams.state import choose_state_signals
from fadiag.capture.streams.state_reader import StateReader

__all__ = ["Readers", "build_readers"]


@dataclass(frozen=True)
class Readers:
    """The readers of a recording.

    Attributes
    ----------
    schedule : callable
        The schedule of the state, and of probes without their own.
    asked_state : sequence of str
        The state signals that the user requested by name.
    """

    probes: ProbeReader
    state: StateReader | None
    live: LiveReader | None
    schedule: Schedule
    asked_state: Sequence[str]


def build_readers(
    attached: AttachedModel,
    *,
    probes: Mapping[str, Probe],
    every: int | Iterable[int] | Schedule,
    live: Live | None,
    state: Iterable[str] | None,
    optimizers: Sequence[Any],
    check: CheckMode,
) -> Readers:
    """Return the readers that the user requested.

    Raises
    ------
    InputError
        A probe, a schedule or a signal does not fit.
    CaptureError
        The optimizers do not update a learned feedback as they update its weight.
    """
    model, layers, others, ops = attached.module, attached.layers, attached.others, attached.ops
    asked = None if state is None else names_of(state)
    signals = choose_state_signals(asked, optimizers, layers)
    whole = in_order(model, (*layers, *others))
    check_learned_feedback(whole, optimizers)
    state_reader = StateReader(layers, signals, optimizers, whole) if signals else None
    schedule = as_schedule(every)
    found = model, layers, others
    probe_reader = ProbeReader(*found, probes, flags=attached.flags, schedule=schedule, check=check, ops=ops)
    live_reader = None if live is None else LiveReader(model, layers, live, others, ops)
    return Readers(probe_reader, state_reader, live_reader, schedule, asked or ())
