"""Session reads the streams of a run in the right order at each step and writes them to its store."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fadiag.capture.checks.loss_scale import LossScaleCheck
from fadiag.capture.session.attached import AttachedModel
from fadiag.capture.session.complete import check_live_found
from fadiag.capture.session.cost import Watch, buffer_for, bytes_of, records_planned
from fadiag.capture.session.existing import IfExists, check_free, delete_store
from fadiag.capture.session.last_weights import LastWeights, why_not_recorded
from fadiag.capture.session.probe_records import ProbeRecords
from fadiag.capture.session.readers import Readers
from fadiag.capture.session.resume import earlier_run
from fadiag.capture.session.static import put_static
from fadiag.capture.session.storage import Storage
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.capture.streams.schedule import Schedule
from fadiag.capture.warn import warn_user
from fadiag.errors import FadiagError
from fadiag.store import RunWriter

__all__ = ["Session"]


class Session:
    """Reads the streams of a run step by step and writes them to its store.

    Parameters
    ----------
    attached : AttachedModel
    readers : Readers
    scaler : torch.amp.GradScaler, optional
        Live errors are divided by its scale.
    watch : Watch
    """

    def __init__(
        self, attached: AttachedModel, readers: Readers, scaler: torch.amp.GradScaler | None, watch: Watch
    ) -> None:
        self.step = 0
        self.watch = watch
        self._attached = attached
        self._epoch: float | None = None
        self._writer: RunWriter | None = None
        self._probes, self._state, self._live = readers.probes, readers.state, readers.live
        self._schedule, self._asked_state = readers.schedule, readers.asked_state
        self._scaler = scaler
        self._loss_scale = LossScaleCheck()
        self._last_weights = LastWeights(attached.layers)
        self._probe_records = ProbeRecords(self._probes, self._loss_scale)
        self._streams: dict[str, StreamWriter] = {}
        self._logged: dict[str, float] = {}
        self._has_stepped = False

    def open(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        *,
        storage: Storage,
        steps: int | None,
        if_exists: IfExists,
        resume_from: int | None,
    ) -> None:
        """Create the store, or open the store that the run continues, and declare the streams."""
        check_free(path, if_exists, resume_from)
        earlier = earlier_run(path, resume=if_exists == "resume", resume_from=resume_from)
        if earlier is not None:
            live = None if self._live is None else self._live.asked
            earlier.check(self._attached, self._probes.by_name, live, manifest["feedback_hash"])
        sizes = {} if self._state is None else {"state": self._state.record_bytes()}
        if earlier is not None:  # before the writer drops the records from that step on
            self.step, self._epoch = earlier.step, earlier.epoch
            self._probes.start = earlier.step
        else:  # before the store exists, so that a failing probe leaves no store
            sizes |= {name: bytes_of(read) for name, read in self._probes.read_ahead().items()}
        options = asdict(storage) | {"resume": if_exists == "resume", "resume_from": resume_from}
        options["buffer_bytes"] = buffer_for(sizes, storage.buffer_bytes)
        if if_exists == "replace":
            delete_store(path)
        writer = self._writer = RunWriter(path, manifest=manifest, **options)

        def add(name: str, schedule: Schedule, attrs: dict[str, Any], **how: Any) -> None:
            planned = records_planned(schedule, steps)
            self._streams[name] = StreamWriter(writer, name, attrs, planned, earlier, **how)

        for name, probe in self._probes.by_name.items():
            if earlier is not None and (reduction := earlier.reduction(name)) is not None:
                probe.adopt(reduction)
            add(name, self._probes.schedule_of(name), {**probe.attrs, "split": name})
            self._probe_records.write_to(self._streams[name])
        if self._state is not None:
            add("state", self._schedule, {"kind": "state"})
        if self._live is not None:
            capacities = {} if earlier is None else earlier.capacities(self._live.asked)
            self._live.restore(capacities, None if earlier is None else earlier.reduction("live"))
            add("live", self._live.asked.schedule, self._live.asked.attrs, capacities=capacities)
        add("log", lambda step: True, {"kind": "log"})
        if all(stream.last_step is None for stream in self._streams.values()):
            put_static(writer, self._attached.layers)
        has_state = self._state is not None and self._streams["state"].has(self.step)
        if earlier is not None and self._state is not None and has_state and self._schedule(self.step):
            earlier.warn_unfinished(self._state.signals)

    @property
    def streams(self) -> Mapping[str, StreamWriter]:
        """The streams of the store, by name."""
        return self._streams

    @property
    def last_step(self) -> int | None:
        """The last step with a record in any stream, including a state record that waits for its update."""
        begun = None if self._state is None else self._state.begun
        steps = [begun, *(stream.last_step for stream in self._streams.values())]
        return max((step for step in steps if step is not None), default=None)

    def begin(self) -> None:
        """Record the streams that are due at the first step."""
        if self._is_due:
            self._attached.check(self.step)
        self._begin()

    def advance(self, scalars: Mapping[str, float], epoch: float | None) -> None:
        """Record the update of the current step, go to the next step, and record the streams that are due.

        Raises
        ------
        CaptureError
            The model has changed since the start, or a reading fails.
        """
        self._attached.flags.look()
        if is_checked := self._is_waiting:
            self._attached.check(self.step)
        self._end(scalars, epoch)
        self._has_stepped = True
        if not is_checked and self._is_due:
            self._attached.check(self.step)
        self._begin()

    def log(self, scalars: Mapping[str, float]) -> None:
        """Add scalars to the next record of the log."""
        self._logged |= scalars

    def finish(self) -> None:
        """Record the last step, which has no update, if the model still has the weights of that step.

        Warns
        -----
        CaptureWarning
            The weights have changed since the last update, so they are not recorded.
        """
        self._attached.flags.look()
        if self._state is not None or self._probes.by_name:
            self._attached.check(self.step)
        if self._live is not None:
            self._live.abandon()  # without an update there was no batch
        self._end_state(updated=False)  # begin() copied the weights
        are_there, is_recorded = self._last_weights.are_there(), self._is_recorded
        if is_recorded or are_there:
            self._record_without_update()
        else:
            self._probe_records.write_waiting()
            self._flush_log(self._epoch)
        if not (are_there or (is_recorded and self._has_stepped)):
            warn_user(why_not_recorded(self.step, has_stepped=self._has_stepped))

    def record_checkpoint(self, step: int, scalars: Mapping[str, float], epoch: float | None) -> None:
        """Record the current model under the step that the user gives."""
        self._attached.flags.look()
        self._attached.check(step)
        self._probe_records.write_waiting()
        self._end_state(updated=False)
        self._flush_log(self._epoch)
        self.step, self._epoch, self._has_stepped = step, epoch, True
        self.log(scalars)
        self._record_without_update()

    def close(self) -> None:
        """Close the store as a complete run."""
        assert self._writer is not None
        self._note_time()
        self._writer.close()

    def check_complete(self) -> None:
        """Raise or warn if the finished run has no record of a requested live or state signal."""
        if self._live is not None:
            signals = self._live.asked.signals
            check_live_found(self._streams["live"], self._attached.layers, signals, self.step)
        if self._state is not None:
            self._state.check_found(self._asked_state)

    def abandon(self, status: str = "failed") -> None:
        """Stop reading and close the store; all records remain.

        Warns
        -----
        RuntimeWarning
            A part of the closing failed. An error would hide the first failure.
        """
        for reader in (self._state, self._live):
            if reader is not None:
                reader.abandon()
        if self._writer is None:
            return
        for end in (self._probe_records.write_waiting, self._note_time, partial(self._writer.close, status)):
            _attempt(end)

    def leave(self) -> None:
        """Close the store of a recorder that the user did not close; a second call does nothing."""
        if self._writer is not None and self._logged:
            _attempt(partial(self._flush_log, self._epoch))
        self.abandon("unfinished")

    def _note_time(self) -> None:
        """Write the time of the recorder and of the run to the store, summed over all sessions."""
        if self._writer is not None and "log" in self._streams:
            before, names = self._writer.attrs("log"), ("recording_seconds", "run_seconds")
            own = dict(zip(names, self.watch.seconds, strict=True))
            self._writer.set_attrs(
                "log", {name: seconds + float(before.get(name, 0.0)) for name, seconds in own.items()}
            )

    @property
    def _is_waiting(self) -> bool:
        """Whether a record waits for the update of the current step."""
        begun = self._state is not None and self._state.begun is not None
        return begun or (self._live is not None and self._live.scale is not None)

    @property
    def _is_due(self) -> bool:
        """Whether any stream is due at the current step."""
        live = self._live is not None and self._live.asked.schedule(self.step)
        state = self._state is not None and self._schedule(self.step)
        return live or state or bool(self._probes.due(self.step))

    @property
    def _is_recorded(self) -> bool:
        """Whether the state and all probes have a record of the current step."""
        state = self._state is None or self._streams["state"].has(self.step)
        return state and self._probe_records.have(self.step)

    def _begin(self) -> None:
        """Record the streams that are due before the update of the current step."""
        self._probe_records.read_due(self.step, self._epoch)
        if self._schedule(self.step):
            self._begin_state()
        if self._live is not None and self._live.asked.schedule(self.step):
            self._live.arm(1.0 if self._scaler is None else float(self._scaler.get_scale()))
        self._last_weights.keep()

    def _end(self, scalars: Mapping[str, float], epoch: float | None) -> None:
        """Record the update of the current step and go to the next step."""
        self._probe_records.write_waiting()
        if self._live is not None and (scale := self._live.scale) is not None:
            read = self._live.disarm(self.step)
            if self._scaler is not None:
                self.log({"loss_scale": scale})
            else:
                self._loss_scale.see_live(read)
            if not self._streams["live"].has(self.step):
                self._streams["live"].layers(self.step, read, epoch=self._epoch)
        self.log(scalars)
        self._flush_log(epoch)
        self._end_state(updated=True)
        self.step += 1
        self._epoch = epoch

    def _record_without_update(self) -> None:
        self._begin_state()
        self._end_state(updated=False)
        self._flush_log(self._epoch)
        self._probe_records.read_last(self.step, self._epoch)
        self._last_weights.keep()

    def _begin_state(self) -> None:
        if self._state is not None and not self._streams["state"].has(self.step):
            self._state.begin(self.step)

    def _end_state(self, *, updated: bool) -> None:
        if self._state is not None and (step := self._state.begun) is not None:
            read = self._state.end(step, updated=updated)
            self._streams["state"].layers(step, read, epoch=self._epoch)

    def _flush_log(self, epoch: float | None) -> None:
        if self._logged and not self._streams["log"].has(self.step):
            self._streams["log"].scalars(self.step, self._logged, epoch)
        self._logged = {}


def _attempt(work: Callable[[], None]) -> None:
    try:
        work()
    except FadiagError as error:
        warn_user(str(error), RuntimeWarning)
