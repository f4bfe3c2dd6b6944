"""ProbeReader reads each probe of a run at the steps of its schedule."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import nn

from fadiag.capture.checks.probe_checks import CheckMode, ProbeChecks
from fadiag.capture.layers.coverage import warn_missing_signals, warn_replaced, warn_undrawn
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.isolation import TrainingFlags
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.schedule import Schedule
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.errors import InputError

__all__ = ["ProbeReader", "check_probes"]

_RESERVED = ("state", "live", "log", "static")


def check_probes(probes: Any) -> dict[str, Probe]:
    """Return the probes by name.

    Raises
    ------
    InputError
        A value is not a probe, or its name is that of another stream.
    """
    if probes is not None and not isinstance(probes, Mapping):
        raise InputError(
            f"probes is a {type(probes).__name__}; give them by name, probes={{'probe': Probe(...)}}"
        )
    found: dict[str, Probe] = dict(probes or {})
    for name, probe in found.items():
        if name in _RESERVED:
            raise InputError(f"a probe is named {name!r}, which is a stream of its own; take another name")
        if not isinstance(probe, Probe):
            raise InputError(f"probe {name!r} is a {type(probe).__name__}; give a fadiag.Probe")
    return found


class ProbeReader:
    """Reads the probes of a model when they are due.

    Parameters
    ----------
    model : nn.Module
    layers, others : sequence of RecordedLayer
        The recorded layers, and all others.
    probes : mapping of str to Probe
    flags : TrainingFlags
    schedule : callable
        The schedule of probes that have none.
    check : {"raise", "warn", "off"}
        The reaction to a failed check of a probe, see `fadiag.Recorder`.
    ops : DeclaredOps, optional

    Raises
    ------
    InputError
        A probe does not fit the layers.

    Attributes
    ----------
    by_name : mapping of str to Probe
    start : int
        The step at which the recorder was built. A check may raise only at this step.
    found : mapping of str to list
        The attributes of each layer and its signals, in the last reading of a probe.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        probes: Mapping[str, Probe],
        *,
        flags: TrainingFlags,
        schedule: Schedule,
        check: CheckMode = "raise",
        ops: DeclaredOps | None = None,
    ) -> None:
        if check not in get_args(CheckMode):
            raise InputError(f"check is {check!r}; it is 'raise', 'warn' or 'off'")
        for probe in probes.values():
            probe.check(layers)
        self.by_name = probes
        self.start = 0
        self._checks = {name: ProbeChecks(check) for name in probes}
        self._model, self._layers, self._others = model, layers, others
        self._flags, self._ops = flags, ops
        self._schedule = schedule
        self.found: dict[str, list[tuple[Mapping[str, Any], Sequence[str]]]] = {}
        self._checked: dict[str, int] = {}  # the step of each probe's last check
        self._ahead: dict[str, list[LayerSignals]] = {}

    def schedule_of(self, name: str) -> Schedule:
        """Return the schedule of a probe."""
        own = self.by_name[name].schedule
        return self._schedule if own is None else own

    def due(self, step: int) -> list[str]:
        """Return the names of the probes to read at a step."""
        return [name for name in self.by_name if self.schedule_of(name)(step)]

    def draws_nulls(self, name: str, step: int, *, first: bool) -> bool:
        """Return whether a probe draws its nulls at a step; by default, only in the ``first`` record."""
        own = self.by_name[name].null_schedule
        return first if own is None else own(step)

    def lacks_nulls(self, name: str, step: int, *, first: bool) -> bool:
        """Return whether a probe has nulls but does not draw them at a step."""
        probe = self.by_name[name]
        return bool(probe.redraws or probe.gate_draws) and not self.draws_nulls(name, step, first=first)

    def read_ahead(self) -> Mapping[str, Sequence[LayerSignals]]:
        """Read the probes that are due at the first step, save the result for `read` and return it.

        So an error in a probe is raised before the store is created.
        """
        step = self.start
        self._ahead = {
            name: self._read(name, step, nulls=self.draws_nulls(name, step, first=True))
            for name in self.due(step)
        }
        for name, read in self._ahead.items():
            self._warn_missing(name, read)
        return dict(self._ahead)

    def read(self, name: str, step: int, *, first: bool, nulls: bool) -> list[LayerSignals]:
        """Return the signals of a probe; in its ``first`` reading, warn about layers without signals."""
        if name in self._ahead:
            return self._ahead.pop(name)
        read = self._read(name, step, nulls=nulls)
        if first:
            self._warn_missing(name, read)
        return read

    def _read(self, name: str, step: int, *, nulls: bool) -> list[LayerSignals]:
        probe, checks = self.by_name[name], self._checks[name]
        again = probe.check_schedule is not None and probe.check_schedule(step)
        last = self._checked.get(name)
        # The last record is read twice but checked once.
        checks.is_due, checks.may_raise = last is None or (again and last != step), step == self.start
        if checks.is_due:
            self._checked[name] = step
        given = self._model, self._layers, self._others
        read = probe.read(*given, name=name, flags=self._flags, nulls=nulls, checks=checks, ops=self._ops)
        self.found[name] = [(layer.attrs, list(layer.signals)) for layer in read]
        return read

    def _warn_missing(self, name: str, read: Sequence[LayerSignals]) -> None:
        found, asked = {layer.name: layer.signals.keys() for layer in read}, self.by_name[name].signals
        where = f"the pass of probe {name!r}"
        warn_missing_signals(found, self._layers, asked, where)
        warn_replaced({layer.name: layer.attrs for layer in read}, where)
        if any("no_error_null" in layer.attrs for layer in read):
            warn_undrawn(self._model, name, self.by_name[name].redraws)
