"""One recording: its store, its streams, and the order in which they are read at each step."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fadiag.capture.checks.loss_scale import LossScaleCheck
from fadiag.capture.layers.coverage import warn_missing_signals
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.session.cost import Watch, buffer_for, bytes_of, records_planned
from fadiag.capture.session.existing import IfExists, check_free, delete_store
from fadiag.capture.session.last_weights import LastWeights
from fadiag.capture.session.readers import Readers
from fadiag.capture.session.resume import earlier_run
from fadiag.capture.session.static import put_static
from fadiag.capture.session.storage import Storage
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.streams.last_nulls import with_nulls
from fadiag.capture.streams.schedule import Schedule
from fadiag.capture.warn import warn_user
from fadiag.errors import CaptureError, FadiagError, StoreError
from fadiag.store import RunWriter

__all__ = ["Session"]


class Session:
    """Read the streams of a run step by step, and write them to its store.

    Parameters
    ----------
    readers : Readers
    scaler : torch.amp.GradScaler, optional
        By whose scale live errors are divided.
    last_weights : LastWeights
    watch : Watch
    """

    def __init__(
        self,
        readers: Readers,
        scaler: torch.amp.GradScaler | None,
        *,
        last_weights: LastWeights,
        watch: Watch,
    ) -> None:
        self.step = 0
        self.watch = watch
        self._epoch: float | None = None
        self._writer: RunWriter | None = None
        self._probes, self._state, self._live = readers.probes, readers.state, readers.live
        self._schedule = readers.schedule
        self._scaler = scaler
        self._loss_scale = LossScaleCheck()
        self._last_weights = last_weights
        self._streams: dict[str, StreamWriter] = {}
        self._logged: dict[str, float] = {}
        self._held: dict[str, list[LayerSignals]] = {}  # records that get their nulls if they are the last

    def open(
        self,
        path: Path,
        model: nn.Module,
        layers: tuple[RecordedLayer, ...],
        manifest: Mapping[str, Any],
        *,
        storage: Storage,
        steps: int | None,
        if_exists: IfExists,
        resume_from: int | None,
    ) -> None:
        """Make the store, or open the one that the run goes on in, and declare the streams."""
        check_free(path, if_exists, resume_from)
        earlier = earlier_run(path, resume=if_exists == "resume", resume_from=resume_from)
        if earlier is not None:
            live = None if self._live is None else self._live.asked
            earlier.check(model, layers, self._probes.by_name, live, manifest["feedback_hash"])
        sizes = {} if self._state is None else {"state": self._state.record_bytes()}
        if earlier is not None:  # before the records of that step are given up
            self.step, self._epoch = earlier.step, earlier.epoch
            self._probes.start = earlier.step
        else:  # before the store exists: a probe that does not fit leaves nothing behind
            sizes |= {name: bytes_of(read) for name, read in self._probes.read_ahead().items()}
        options = asdict(storage) | {"buffer_bytes": buffer_for(sizes, storage.buffer_bytes)}
        if if_exists == "replace":
            delete_store(path)
        resume = if_exists == "resume"
        writer = self._writer = RunWriter(
            path, manifest=manifest, **options, resume=resume, resume_from=resume_from
        )

        def add(name: str, schedule: Schedule, attrs: dict[str, Any], **how: Any) -> None:
            planned = records_planned(schedule, steps)
            self._streams[name] = StreamWriter(writer, name, attrs, planned, earlier, **how)

        for name, probe in self._probes.by_name.items():
            if earlier is not None and (reduction := earlier.reduction(name)) is not None:
                probe.adopt(reduction)
            add(name, self._probes.schedule_of(name), {**probe.attrs, "split": name})
        if self._state is not None:
            add("state", self._schedule, {"kind": "state"})
        if self._live is not None:
            capacities = {} if earlier is None else earlier.capacities(self._live.asked)
            self._live.restore(capacities, None if earlier is None else earlier.reduction("live"))
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
    def reads_the_model(self) -> bool:
        """Whether the last step has anything to record of the model itself."""
        return self._state is not None or bool(self._probes.by_name)

    @property
    def last_step(self) -> int | None:
        """The last step of which a stream has a record; a state that waits for its update counts."""
        begun = None if self._state is None else self._state.begun
        steps = [begun, *(stream.last_step for stream in self._streams.values())]
        return max((step for step in steps if step is not None), default=None)

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
        self._last_weights.keep()

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
        """Record the last step, which has no update, if the model still has its weights.

        Warns
        -----
        CaptureWarning
            The model has other weights than the last update left, so they are not recorded.
        """
        if self._live is not None:
            self._live.abandon()  # without an update there is no batch
        self._end_state(updated=False)  # the weights were copied when it was begun
        if self._is_recorded or self._last_weights.are_there():
            self._record_without_update()
            return
        self._write_held()
        self._flush_log(self._epoch)
        warn_user(
            "at close() the model has other weights than the last update left, so nothing more of step "
            f"{self.step} is recorded: was an average or the best checkpoint loaded, or recorder.step() left "
            "out? Close the recorder before other weights are loaded"
        )

    def record_checkpoint(self, step: int, scalars: Mapping[str, float], epoch: float | None) -> None:
        """Record the model as it is now under a step that the user names."""
        self._write_held()
        self._end_state(updated=False)
        self._flush_log(self._epoch)
        self.step, self._epoch = step, epoch
        self.log(scalars)
        self._record_without_update()

    def _record_without_update(self) -> None:
        self._begin_state()
        self._end_state(updated=False)
        self._flush_log(self._epoch)
        for name in self._probes.by_name:
            self._read_last(name)
        self._last_weights.keep()

    def close(self) -> None:
        """Close the store as a complete run."""
        assert self._writer is not None
        self._note_time()
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
                warn_missing_signals(recorded, layers, self._live.asked.signals, where)
        if self._state is not None:
            self._state.check_found(asked)

    def abandon(self, status: str = "failed") -> None:
        """Stop to read and close the store: all that was recorded stays."""
        for reader in (self._state, self._live):
            if reader is not None:
                reader.abandon()
        if self._writer is None:
            return
        with contextlib.suppress(StoreError):
            self._note_time()
        try:
            self._write_held()
            self._writer.close(status)
        except StoreError as error:  # raised, it would hide what failed first
            warn_user(str(error), RuntimeWarning)

    def _note_time(self) -> None:
        """Let the store say how much of the run's time the recorder took, in all its sessions."""
        if self._writer is not None and "log" in self._streams:
            before, names = self._writer.attrs("log"), ("recording_seconds", "run_seconds")
            own = dict(zip(names, self.watch.seconds, strict=True))
            self._writer.set_attrs(
                "log", {name: seconds + float(before.get(name, 0.0)) for name, seconds in own.items()}
            )

    def leave(self) -> None:
        """Close the store of a recorder that nobody closed; a second closing does nothing."""
        if self._writer is not None and self._logged:
            with contextlib.suppress(FadiagError):
                self._flush_log(self._epoch)
        self.abandon("unfinished")

    @property
    def _has_begun_state(self) -> bool:
        return self._state is not None and self._state.begun is not None

    @property
    def _is_recorded(self) -> bool:
        """Whether all streams of the model itself have the current step."""
        names = [*self._probes.by_name, *([] if self._state is None else ["state"])]
        return all(map(self._has, names))

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
