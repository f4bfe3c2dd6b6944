"""The sources of a recording: what is read of a model, and when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fadiag.capture.checks.probe_checks import CheckMode
from fadiag.capture.layers.selection import RecordedLayer, in_order
from fadiag.capture.passes.isolation import TrainingFlags
from fadiag.capture.streams.live import Live
from fadiag.capture.streams.live_reader import LiveReader
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.probe_reader import ProbeReader
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.streams.state import choose_state_signals
from fadiag.capture.streams.state_reader import StateReader
from fadiag.capture.tracing.declared_ops import DeclaredOps

__all__ = ["Readers", "build_readers"]


@dataclass(frozen=True)
class Readers:
    """The readers of a recording; ``schedule`` is that of the state, and of probes without their own."""

    probes: ProbeReader
    state: StateReader | None
    live: LiveReader | None
    schedule: Schedule


def build_readers(
    model: nn.Module,
    layers: Sequence[RecordedLayer],
    others: Sequence[RecordedLayer],
    flags: TrainingFlags,
    *,
    probes: Mapping[str, Probe],
    every: int | Iterable[int] | Schedule,
    live: Live | None,
    state: Sequence[str] | None,
    optimizers: Sequence[Any],
    check: CheckMode,
    ops: DeclaredOps,
) -> Readers:
    """Return the readers that a user asked for.

    Raises
    ------
    InputError
        A probe, a schedule or a signal that does not fit.
    """
    signals = choose_state_signals(state, optimizers, layers)
    whole = in_order(model, (*layers, *others))
    state_reader = StateReader(layers, signals, optimizers, whole) if signals else None
    schedule = as_schedule(every)
    found = model, layers, others
    probe_reader = ProbeReader(*found, probes, flags=flags, schedule=schedule, check=check, ops=ops)
    live_reader = None if live is None else LiveReader(model, layers, live, others, ops)
    return Readers(probe_reader, state_reader, live_reader, schedule)
