"""One recording: its store, its streams, and the order in which they are read at each step."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

import torch

from fadiag.capture.checks.loss_scale import LossScaleCheck
from fadiag.capture.layers.coverage import warn_missing_signals
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.session.resume import EarlierRun
from fadiag.capture.session.static import put_static
from fadiag.capture.session.storage import Storage
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.streams.last_nulls import with_nulls
from fadiag.capture.streams.live_reader import LiveReader
from fadiag.capture.streams.probe_reader import ProbeReader
from fadiag.capture.streams.schedule import Schedule
from fadiag.capture.streams.state_reader import StateReader
from fadiag.errors import CaptureError, StoreError
from fadiag.store import RunWriter

__all__ = ["Session"]


class Session:
    """Read the streams of a run step by step, and write them to its store.

    Parameters
    ----------
    probes : ProbeReader
    state : StateReader, optional
    live : LiveReader, optional
    schedule : callable
        Of the state stream.
    scaler : torch.amp.GradScaler, optional
        By whose scale live errors are divided.
    """

    def __init__(
        self,
        probes: ProbeReader,
        state: StateReader | None,
        live: LiveReader | None,
        schedule: Schedule,
        scaler: torch.amp.GradScaler | None,
    ) -> None:
        self.step = 0
        self._epoch: float | None = None
        self._writer: RunWriter | None = None
        self._probes, self._state, self._live = probes, state, live
        self._schedule = schedule
        self._scaler = scaler
        self._loss_scale = LossScaleCheck()
        self._streams: dict[str, StreamWriter] = {}
        self._logged: dict[str, float] = {}
        self._held: dict[str, list[LayerSignals]] = {}  # records that get their nulls if they are the last

    def open(
        self,
        path: str | PathLike[str],
        layers: tuple[RecordedLayer, ...],
        manifest: Mapping[str, Any],
        *,
        storage: Storage,
        steps: int | None,
        earlier: EarlierRun | None,
        **resuming: Any,
    ) -> None:
        """Make the store, or open the one that the run goes on in, and declare the streams."""
        if earlier is not None:  # before the records of that step are given up
            self.step, self._epoch = earlier.step, earlier.epoch
            self._probes.start = earlier.step
        else:  # before the store exists: a probe that does not fit leaves nothing behind
            self._probes.read_ahead()
        writer = self._writer = RunWriter(path, manifest=manifest, **asdict(storage), **resuming)

        def add(name: str, schedule: Schedule, attrs: dict[str, Any], **options: Any) -> None:
            planned = None if steps is None else sum(map(schedule, range(int(steps)))) + 1  # and the last
            self._streams[name] = StreamWriter(writer, name, attrs, planned, earlier, **options)

        for name, probe in self._probes.by_name.items():
            add(name, self._probes.schedule_of(name), {**probe.attrs, "split": name})
        if self._state is not None:
            add("state", self._schedule, {"kind": "state"})
        if self._live is not None:
            capacities = {} if earlier is None else earlier.capacities(self._live.asked)
            self._live.restore_capacities(capacities)
            add("live", self._live.asked.schedule, self._live.asked.attrs, capacities=capacities)
        add("log", lambda step: True, {"kind": "log"})
        if all(stream.last_step is None for stream in self._streams.values()):
            put_static(writer, layers)
        if (
            earlier is not None
            and self._state is not None
            and self._has("state")
            and self._schedule(self.step)
        ):
            earlier.warn_unfinished(self._state.signals)

    @property
    def is_waiting(self) -> bool:
        """Whether a record was begun before the update and ends after it."""
        return self._has_begun_state or (self._live is not None and self._live.scale is not None)

    @property
    def is_due(self) -> bool:
        """Whether anything is recorded at the current step."""
        live = self._live is not None and self._live.asked.schedule(self.step)
        state = self._state is not None and self._schedule(self.step)
        return live or state or bool(self._probes.due(self.step))

    def begin(self) -> None:
        """Record what is scheduled for the current step, before its update."""
        for name in self._probes.due(self.step):
            self._read_probe(name)
        if self._schedule(self.step):
            self._begin_state()
        if self._live is not None and self._live.asked.schedule(self.step):
            self._live.arm(1.0 if self._scaler is None else float(self._scaler.get_scale()))

    def end(self, scalars: Mapping[str, float], epoch: float | None) -> None:
        """Record what the update of the current step has made, and go to the next step."""
        self._write_held()
        if self._live is not None and (scale := self._live.scale) is not None:
            read = self._live.disarm(self.step)
            if self._scaler is not None:
                self.log({"loss_scale": scale})
            else:
                self._loss_scale.see_live(read)
            if not self._has("live"):
                self._streams["live"].layers(self.step, read, epoch=self._epoch)
        self.log(scalars)
        self._flush_log(epoch)
        self._end_state(updated=True)
        self.step += 1
        self._epoch = epoch

    def log(self, scalars: Mapping[str, float]) -> None:
        """Add scalars to the next record of the log."""
        self._logged |= scalars

    def finish(self) -> None:
        """Record the last step, which has no update."""
        if self._live is not None:
            self._live.abandon()  # without an update there is no batch
        if not self._has_begun_state:
            self._begin_state()
        self._end_state(updated=False)
        self._flush_log(self._epoch)
        for name in self._probes.by_name:
            self._read_last(name)

    def close(self) -> None:
        """Close the store as a complete run."""
        assert self._writer is not None
        self._writer.close()

    def check_complete(self, layers: Sequence[RecordedLayer], asked: Sequence[str]) -> None:
        """Raise or warn if what was asked for by name is in no record of the finished run.

        Raises
        ------
        CaptureError
            The live stream has no record, or a state signal was never there.
        """
        if self._live is not None:
            if self.step > 0 and self._streams["live"].last_step is None:
                raise CaptureError(
                    f"live recorded nothing: its schedule has none of this run's steps 0 to {self.step - 1}; "
                    "give Live(every=...) a schedule that has, or leave live= out (all else is in the store)"
                )
            if recorded := self._streams["live"].recorded:
                where = "the training's own passes (live)"
                warn_missing_signals(recorded, layers, self._live.asked.signals, where, stacklevel=3)
        if self._state is not None:
            self._state.check_found(asked)

    def abandon(self) -> None:
        """Close the store as a failed run: what was committed stays."""
        for reader in (self._state, self._live):
            if reader is not None:
                reader.abandon()
        if self._writer is None:
            return
        try:
            self._write_held()
            self._writer.close(status="failed")
        except StoreError as error:  # raised, it would hide what failed first
            warnings.warn(str(error), RuntimeWarning, stacklevel=4)

    @property
    def _has_begun_state(self) -> bool:
        return self._state is not None and self._state.begun is not None

    def _has(self, stream: str) -> bool:
        """Say whether a stream has the record of the current step, or of a later one."""
        last = self._streams[stream].last_step
        return last is not None and last >= self.step

    def _read_probe(self, name: str) -> None:
        if self._has(name):
            return
        first = self._streams[name].last_step is None
        nulls = self._probes.draws_nulls(name, self.step, first=first)
        self._held[name] = self._probes.read(name, self.step, first=first, nulls=nulls)
        self._loss_scale.see_probe(self._held[name])
        if not self._probes.lacks_nulls(name, self.step, first=first):
            self._write_held(name)

    def _read_last(self, name: str) -> None:
        """Record a probe at the end, with its nulls: add them to a record that waits for them."""
        if self._has(name):
            return
        last = self._probes.read(name, self.step, first=self._streams[name].last_step is None, nulls=True)
        held = self._held.get(name)
        self._held[name] = last if held is None else with_nulls(held, last, name)
        self._write_held(name)

    def _write_held(self, *names: str) -> None:
        for name in names or tuple(self._held):
            self._streams[name].layers(self.step, self._held.pop(name), epoch=self._epoch)

    def _begin_state(self) -> None:
        if self._state is not None and not self._has("state"):
            self._state.begin(self.step)

    def _end_state(self, *, updated: bool) -> None:
        if self._state is not None and (step := self._state.begun) is not None:
            read = self._state.end(step, updated=updated)
            self._streams["state"].layers(step, read, epoch=self._epoch)

    def _flush_log(self, epoch: float | None) -> None:
        if self._logged and not self._has("log"):
            self._streams["log"].scalars(self.step, self._logged, epoch)
        self._logged = {}
