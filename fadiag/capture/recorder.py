"""The recorder: what a user attaches to a training run."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import nn

from fadiag.capture.arguments import names_of, whole_number
from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.coverage import warn_missing_signals, warn_unknown_layers
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.selection import LayerChoice, choose_layers, in_order, others_of
from fadiag.capture.layers.sharding import check_whole
from fadiag.capture.layers.unchanged import Structure
from fadiag.capture.passes.isolation import TrainingFlags
from fadiag.capture.session.distributed import Ranks
from fadiag.capture.session.manifest import manifest_of
from fadiag.capture.session.resume import Earlier, earlier_run
from fadiag.capture.session.static import put_static
from fadiag.capture.session.stream_writer import StreamWriter
from fadiag.capture.streams.live import Live, check_live
from fadiag.capture.streams.live_reader import LiveReader
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.probe_reader import ProbeReader, check_probes
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.streams.state import choose_state_signals
from fadiag.capture.streams.state_reader import StateReader
from fadiag.errors import CaptureError, CaptureWarning, InputError, StoreError
from fadiag.store import RunWriter, check_number, check_scalar

__all__ = ["Recorder"]


class Recorder:
    """Record a training run into a store, changing nothing of it.

    Step 0 is recorded at once. Call `step` after each update of the optimizer, and `close` at the end, or use
    it as a context, which closes it; the last step is then recorded too, whatever the schedule.

    Parameters
    ----------
    model : nn.Module
        Of a compiled or data-parallel model, the module inside is recorded.
    path : str or path
        Of the store, which must not exist.
    optimizer : torch.optim.Optimizer or a sequence of them, optional
        Needed for the gradient, momentum and update in the state stream.
    probes : mapping of str to Probe
        Each becomes a stream of its name.
    every : int, iterable of int, or callable
        The schedule of probes and state, see `fadiag.capture.as_schedule`.
    steps : int, optional
        How many updates the run will make. It sizes the store's files and tells before the start whether the
        disk has room; a run may make fewer or more.
    live : Live, optional
        Signals of the training batches themselves, with a schedule of their own.
    state : iterable of str, optional
        Signals of the state stream; all that can be known by default, ``()`` for none.
    layers : iterable of str, module or module class, optional
        Names, globs, modules of the model, or classes; every layer that an adapter takes by default.
    meta, config : mapping
        Written into the manifest as they are; plain JSON.
    adapters : sequence of LayerAdapter
        Asked before the default ones.
    scaler : torch.amp.GradScaler, optional
        The run's own: live errors are divided by its scale, which is logged as ``loss_scale``.
    ranks : {"first", "all"}
        Of a run of several processes (torch.distributed), each of which builds a recorder: whether rank 0
        records alone, or every rank into a store of its own, ``path/rank0.zarr``, ``path/rank1.zarr``, ...,
        which `fadiag.open_run` shows as one run under ``path``. The feedback of all ranks is compared first.
    buffer_bytes, on_full, on_failure, resume, resume_from
        As `fadiag.store.RunWriter` takes them. To go on, the model must be the one that the store holds, with
        the weights of that step.

    Raises
    ------
    InputError
        An unknown layer (the near ones are named) or signal, or one that cannot be known.
    CaptureError
        A model with nothing to record, a probe that does not fit it, ranks that differ in their feedback, or
        a store that holds another run than the one that shall go on.

    Examples
    --------
    >>> import tempfile, torch, fadiag
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> model = fadiag.convert(model)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> x, y = torch.randn(8, 4), torch.randint(2, (8,))
    >>> loss_of = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with Recorder(model, path, optimizer=optimizer, probes={"probe": Probe((x, y), loss_of)}) as recorder:
    ...     loss = loss_of(model, (x, y))
    ...     loss.backward()
    ...     optimizer.step()
    ...     recorder.step(loss=loss.item())
    >>> fadiag.open_run(path)["probe/0/error"].shape
    (2, 8, 3)
    """

    def __init__(
        self,
        model: nn.Module,
        path: str | PathLike[str],
        *,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        probes: Mapping[str, Probe] | None = None,
        every: int | Iterable[int] | Schedule = 50,
        steps: int | None = None,
        live: Live | None = None,
        state: Iterable[str] | None = None,
        layers: LayerChoice | Iterable[LayerChoice] | None = None,
        meta: Mapping[str, Any] | None = None,
        config: Any = None,
        adapters: Sequence[LayerAdapter] = (),
        scaler: torch.amp.GradScaler | None = None,
        ranks: Literal["first", "all"] = "first",
        buffer_bytes: int = 128 * 2**20,
        on_full: Literal["block", "skip"] = "block",
        on_failure: Literal["raise", "warn"] = "raise",
        resume: bool = False,
        resume_from: int | None = None,
    ) -> None:
        self._model = _inside(model)
        check_whole(self._model)
        every_adapter = (*adapters, *DEFAULT_ADAPTERS)
        self._layers = choose_layers(self._model, every_adapter, layers)
        self._others = others_of(self._model, every_adapter, self._layers)
        self._structure = Structure(self._model, self._layers, self._others, every_adapter)
        self._flags = TrainingFlags(self._model)
        optimizers = _as_list(optimizer)
        self._schedule = as_schedule(every)
        if steps is not None and whole_number(steps, 1) is None:
            raise InputError(f"steps is {steps!r}; give the number of updates to come, at least 1")
        self._steps = None if steps is None else int(steps)
        self._asked = () if state is None else names_of(state)
        state_signals = choose_state_signals(None if state is None else self._asked, optimizers, self._layers)
        self._probes = ProbeReader(
            self._model,
            self._layers,
            self._others,
            check_probes(probes, self._layers),
            flags=self._flags,
            schedule=self._schedule,
        )
        if live is not None:
            check_live(model, live, ranks)
        self._writers: dict[str, StreamWriter] = {}
        self._earlier: Earlier | None = None
        self._state: StateReader | None = None
        self._live = None if live is None else LiveReader(self._model, self._layers, live, self._others)
        self._scaler = scaler
        self._epoch: float | None = None
        self._logged: dict[str, float] = {}
        self._closed = False
        self._failure: str | None = None
        self._step = resume_from or 0
        peers = Ranks(ranks)
        peers.check_feedback(self._layers)
        peers.check_probes(self._model, self._probes.by_name)
        self._records = peers.records
        manifest = manifest_of(self._layers, self._others, meta, config) | peers.manifest()

        def writer() -> RunWriter:
            return RunWriter(
                peers.path(path),
                manifest=manifest,
                buffer_bytes=buffer_bytes,
                on_full=on_full,
                on_failure=on_failure,
                resume=resume,
                resume_from=resume_from,
            )

        try:
            if self._records:
                if layers is None:
                    warn_unknown_layers(self._others, stacklevel=2)
                self._earlier = earlier_run(peers.path(path), resume=resume, resume_from=resume_from)
                if self._earlier is not None:
                    hashes = manifest["feedback_hash"]
                    self._earlier.check(self._model, self._layers, self._probes.by_name, live, hashes)
                self._open(writer, state_signals, optimizers, resume)
        except Exception as error:
            peers.agree(self._step, error)
            raise
        try:
            self._step = peers.agree(self._step)
        except BaseException:
            self._abandon()
            raise

    @property
    def current_step(self) -> int:
        """The number of updates applied so far."""
        return self._step

    def step(self, *, epoch: float | None = None, **scalars: float) -> None:
        """Tell that the optimizer has made one update.

        Parameters
        ----------
        epoch : float, optional
            How many epochs the run has seen.
        **scalars : float
            Go to the log under the step *before* the update, whose weights the loss was taken with. What was
            measured after the update is told by `log` after this call.

        Raises
        ------
        InputError
            An epoch that is no number, or a scalar that `log` would refuse. The step is not told then, and
            the recording goes on.
        CaptureError
            The recorder is closed, the model is not the one that it was, the optimizer did not make one
            update, or what is to be recorded does not fit what was recorded before. After an error nothing
            more is recorded: the store keeps what it has, as a failed run, and each further call says why.
        """
        self._check_open()
        numbers = _numbers(scalars)
        epoch = None if epoch is None else check_number("epoch", epoch)
        if not self._records:
            self._step += 1
            return
        self._flags.look()
        try:
            begun = (self._state is not None and self._state.begun is not None) or (
                self._live is not None and self._live.scale is not None
            )
            if begun:
                self._structure.check(self._step)
            self._end_live()
            self._logged |= numbers
            self._flush_log(epoch)
            self._end_state(updated=True)
            self._step += 1
            self._epoch = epoch
            self._record(checked=begun)
        except BaseException as error:
            # Half a step may be recorded: to go on would put the next one under a wrong number.
            self._failure = f"{type(error).__name__}: {error}"
            self._abandon()
            raise

    def log(self, **scalars: float) -> None:
        """Add scalars to the log under the current step.

        Raises
        ------
        InputError
            A name that is none (letters, digits and underscores, a letter first), or a value that is no
            number. Nothing is logged then, and the recording goes on.
        """
        self._check_open()
        numbers = _numbers(scalars)
        if self._records:
            self._logged |= numbers

    def close(self) -> None:
        """Record the last step and close the store.

        Raises
        ------
        CaptureError
            A live schedule had none of the run's steps, or a state signal that was asked for by name was
            never there: nothing was recorded of it, but all else is.
        """
        if self._closed or not self._records:
            self._closed = True
            return
        self._flags.look()
        try:
            if self._live is not None:
                self._live.abandon()  # the last step has no update, hence no batch
            if self._state is not None or self._probes.by_name:
                self._structure.check(self._step)
            if self._state is not None and self._state.begun is None:
                self._begin_state()
            self._end_state(updated=False)
            self._flush_log(self._epoch)
            for name in self._probes.by_name:
                self._read_probe(name)
        except BaseException:
            self._abandon()
            raise
        self._closed = True
        self._writer.close()
        if self._live is not None and self._step > 0 and self._writers["live"].last_step is None:
            raise CaptureError(
                f"live recorded nothing: its schedule has none of this run's steps 0 to {self._step - 1}; "
                "give Live(every=...) a schedule that has, or leave live= out (all else is in the store)"
            )
        if self._live is not None and (heard := self._writers["live"].recorded):
            where = "the training's own passes (live)"
            warn_missing_signals(heard, self._layers, self._live.asked.signals, where, stacklevel=2)
        if self._state is not None:
            self._state.check_found(self._asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def _open(
        self,
        writer: Callable[[], RunWriter],
        state_signals: Sequence[str],
        optimizers: Sequence[Any],
        resume: bool,
    ) -> None:
        """Open the store, find the step that it is at, and record it."""
        # Read before the records of the step that the run goes on from are given up.
        epoch = None if self._earlier is None else self._earlier.epoch
        # Read before the store exists: a probe that does not fit leaves nothing behind.
        if not resume:
            self._probes.read_ahead()
        self._writer = writer()
        try:
            self._open_streams(state_signals, optimizers)
            if all(sink.last_step is None for sink in self._writers.values()):
                put_static(self._writer, self._layers)
            if self._earlier is not None:
                self._step = self._earlier.step
                self._epoch = epoch
                if self._earlier.resume_from is None:
                    self._tell_unfinished(state_signals)
            self._record()
        except BaseException:
            self._abandon()
            raise

    def _tell_unfinished(self, state_signals: Sequence[str]) -> None:
        if "update" in state_signals and self._schedule(self._step) and self._is_done("state"):
            warnings.warn(
                f"the state of step {self._step} has no gradient and update, since the run was closed there; "
                f"give resume_from={self._step} to record that step anew",
                CaptureWarning,
                stacklevel=4,
            )

    def _open_streams(self, state_signals: Sequence[str], optimizers: Sequence[Any]) -> None:
        for name, probe in self._probes.by_name.items():
            attrs = {"kind": "probe", "mode": probe.mode, "loss_reduction": "mean", "split": name}
            planned = self._planned(self._probes.schedule_of(name))
            self._writers[name] = StreamWriter(self._writer, name, attrs, planned, self._earlier)
        if state_signals:
            self._writers["state"] = StreamWriter(
                self._writer, "state", {"kind": "state"}, self._planned(self._schedule), self._earlier
            )
            whole = in_order(self._model, (*self._layers, *self._others))
            self._state = StateReader(self._layers, state_signals, optimizers, whole)
        if self._live is not None:
            attrs = {"kind": "live", "loss_reduction": "as trained"}
            planned = self._planned(self._live.asked.schedule)
            rooms = {} if self._earlier is None else self._earlier.rooms(self._live.asked)
            self._live.restore_capacities(rooms)
            self._writers["live"] = StreamWriter(
                self._writer, "live", attrs, planned, self._earlier, rooms=rooms
            )
        self._writers["log"] = StreamWriter(
            self._writer, "log", {"kind": "log"}, None if self._steps is None else self._steps + 1
        )

    def _planned(self, schedule: Schedule) -> int | None:
        """Count the records that a schedule will make, the last step's included; None where unknown."""
        if self._steps is None:
            return None
        return sum(schedule(step) for step in range(self._steps)) + 1

    def _record(self, *, checked: bool = False) -> None:
        """Record what is scheduled for the current step, of a model that is checked first."""
        probes = self._probes.due(self._step)
        state = self._state is not None and self._schedule(self._step)
        live = self._live is not None and self._live.asked.schedule(self._step)
        if (probes or state or live) and not checked:
            self._structure.check(self._step)
        for name in probes:
            self._read_probe(name)
        if state:
            self._begin_state()
        if live and self._live is not None:
            self._live.arm(1.0 if self._scaler is None else float(self._scaler.get_scale()))

    def _end_live(self) -> None:
        if self._live is not None and (scale := self._live.scale) is not None:
            read = self._live.disarm(self._step)
            if self._scaler is not None:
                self.log(loss_scale=scale)
            if not self._is_done("live"):
                self._writers["live"].layers(self._step, read, epoch=self._epoch)

    def _is_done(self, stream: str) -> bool:
        last = self._writers[stream].last_step
        return last is not None and last >= self._step

    def _read_probe(self, name: str) -> None:
        if self._is_done(name):
            return
        read = self._probes.read(name, first=self._writers[name].last_step is None)
        self._writers[name].layers(self._step, read, epoch=self._epoch)

    def _begin_state(self) -> None:
        if self._state is not None and not self._is_done("state"):
            self._state.begin(self._step)

    def _end_state(self, *, updated: bool) -> None:
        if self._state is not None and (step := self._state.begun) is not None:
            read = self._state.end(step, updated=updated)
            self._writers["state"].layers(step, read, epoch=self._epoch)

    def _flush_log(self, epoch: float | None) -> None:
        if self._logged and not self._is_done("log"):
            self._writers["log"].scalars(self._step, self._logged, epoch)
        self._logged = {}

    def _check_open(self) -> None:
        if self._failure is not None:
            raise CaptureError(
                f"the recorder stopped at step {self._step}: {self._failure}; what was recorded before is in "
                "the store, and the training may go on without it"
            )
        if self._closed:
            raise CaptureError(
                "the recorder is closed; make a new one, with resume=True to go on in its store"
            )

    def _abandon(self) -> None:
        """Leave the store as a failed run: what was committed stays."""
        if not self._closed:
            self._closed = True
            if not self._records:
                return
            if self._state is not None:
                self._state.abandon()
            if self._live is not None:
                self._live.abandon()
            try:
                self._writer.close(status="failed")
            except StoreError as error:  # raised, it would stand in the place of what failed first
                warnings.warn(str(error), RuntimeWarning, stacklevel=3)


def _numbers(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Return scalars to log as plain numbers."""
    return {check_scalar(name): check_number(f"scalar {name!r}", value) for name, value in scalars.items()}


def _inside(model: nn.Module) -> nn.Module:
    """Return the module inside compiled and data-parallel wrappers, however they are nested."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give an nn.Module")
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    inner = model.module if isinstance(model, wrappers) else getattr(model, "_orig_mod", None)
    return model if inner is None else _inside(inner)


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    found = list(given) if isinstance(given, (list, tuple)) else [given]
    for optimizer in found:
        if not hasattr(optimizer, "register_step_pre_hook"):
            raise InputError(f"optimizer is a {type(optimizer).__name__}; give a torch.optim.Optimizer")
    return found
