"""Record a training run: `Recorder` is what a user attaches to a model."""

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import torch
from torch import nn

from fadiag.capture.arguments import check_steps
from fadiag.capture.checks.probe_checks import CheckMode
from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.capture.layers.coverage import warn_unknown_layers
from fadiag.capture.session.attached import AttachedModel
from fadiag.capture.session.checkpoint import checked_checkpoint
from fadiag.capture.session.cost import Cost, Watch
from fadiag.capture.session.distributed import Processes
from fadiag.capture.session.dry_run import estimate
from fadiag.capture.session.existing import IfExists
from fadiag.capture.session.manifest import manifest_of
from fadiag.capture.session.readers import build_readers
from fadiag.capture.session.recorded_table import as_html, recorded_table
from fadiag.capture.session.session import Session
from fadiag.capture.session.storage import Storage
from fadiag.capture.session.stream_writer import checked_scalars
from fadiag.capture.session.unclosed import close_unfinished
from fadiag.capture.streams.live import Live, check_live
from fadiag.capture.streams.optimizer_steps import as_optimizers
from fadiag.capture.streams.probe import Probe
from fadiag.capture.streams.probe_reader import check_probes
from fadiag.capture.streams.schedule import Schedule
from fadiag.errors import CaptureError
from fadiag.paths import absolute_path
from fadiag.rules.layer_choice import LayerChoice
from fadiag.store import check_number

__all__ = ["Recorder"]

_CLOSED = "the recorder is closed; make a new one, with if_exists='resume' to go on in its store"


class Recorder:
    """Record a training run into a store, without any effect on the run.

    The recorder writes the first step when it is built. Call `step` after each update, and `close` at the
    end, which records the last step; a ``with`` block closes it too. The store of a recorder that nobody
    closes is closed as ``unfinished`` when Python deletes the recorder or ends.

    The keywords come in groups. ``optimizer`` to ``layers`` say what to record, ``every`` to ``first_step``
    when. ``meta`` and ``config`` are notes. ``adapters`` to ``scaler`` name what the recorder cannot see in
    the model. ``check`` is about error_bp, and ``storage`` to ``dry_run`` say how to store.

    Parameters
    ----------
    model : nn.Module
        Of a compiled or data-parallel model, the module inside is recorded.
    path : str or path
        The store.
    optimizer : torch.optim.Optimizer or a sequence of them, optional
        The state stream needs it for gradient, momentum and update.
    probes : mapping of str to Probe
        Each becomes a stream of its name.
    live : Live, optional
        Signals of the training batches, with their own schedule.
    state : iterable of str, optional
        Signals of the state stream: by default all that can be known, ``()`` for none.
    layers : iterable of str, module or module class, optional
        Names, globs, modules of the model, or classes; by default every layer that an adapter knows.
    every : int, iterable of int, or callable
        The schedule of probes and state, see `fadiag.capture.as_schedule`.
    steps : int, optional
        About how many updates the run will make, for file sizes, a check of the disk, and the time left.
    first_step : int
        How many updates the model has seen before a new store begins. The store's first weights are those.
    meta, config : mapping
        Written into the manifest. Values that are not JSON become text, with a warning.
    adapters : sequence of LayerAdapter
        Asked before the default ones.
    passes, gates : sequence
        Operations that the recorder does not know: autograd functions (or their ``apply``), functions and
        module classes. Those in ``passes`` return their input; those in ``gates`` are gates between layers.
    scaler : torch.amp.GradScaler, optional
        The run's own. Live errors are divided by its scale, which is logged as ``loss_scale``.
    check : {"raise", "warn", "off"}
        What to do if a probe's error_bp is not the derivative of the loss, or an adapter has no effect.
        "warn" leaves error_bp, modulator_bp and gradient_bp of the layer out, "raise" does so in mid-run.
    storage : Storage, optional
        Buffers, and what to do if the disk is slow, full or gone.
    if_exists : {"error", "resume", "replace"}
        What to do with a store that exists: refuse it; continue after its last record (the model must have
        the weights of that step); or delete it first, unless a recorder is writing it.
    resume_from : int, optional
        Continue from a checkpoint of this step. Records of this step and of later ones are dropped.
    processes : {"first"}
        Rank 0 of a distributed run records. Build a recorder on every rank: they compare their feedback.
    dry_run : bool
        Write nothing: read probes and state once, and print its ``cost`` in bytes, time and memory.

    Raises
    ------
    InputError
        An unknown layer (the error lists near names), an unknown signal, or one that cannot be known.
    CaptureError
        Nothing to record, a probe that fails, ranks that differ in their feedback, or a store of another run.

    Examples
    --------
    >>> import tempfile, torch, fadiag
    >>> model = fadiag.convert(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> x, y = torch.randn(8, 4), torch.randint(2, (8,))
    >>> loss_of = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with Recorder(model, path, optimizer=optimizer, probes={"probe": Probe((x, y), loss_of)}) as recorder:
    ...     loss_of(model, (x, y)).backward()
    ...     optimizer.step()
    ...     recorder.step()
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
        live: Live | None = None,
        state: Iterable[str] | None = None,
        layers: LayerChoice | Iterable[LayerChoice] | None = None,
        every: int | Iterable[int] | Schedule = 50,
        steps: int | None = None,
        first_step: int = 0,
        meta: Mapping[str, Any] | None = None,
        config: Any = None,
        adapters: Sequence[LayerAdapter] = (),
        passes: Sequence[Any] = (),
        gates: Sequence[Any] = (),
        scaler: torch.amp.GradScaler | None = None,
        check: CheckMode = "raise",
        storage: Storage | None = None,
        if_exists: IfExists = "error",
        resume_from: int | None = None,
        processes: Literal["first"] = "first",
        dry_run: bool = False,
    ) -> None:
        self._path = absolute_path(path)
        storage = storage or Storage()
        check_steps(steps, first_step)
        by_name = check_probes(probes)
        attached = AttachedModel(model, layers, adapters=adapters, probes=by_name, passes=passes, gates=gates)
        watch = Watch(attached.layers[0].weight.device)
        optimizers = as_optimizers(optimizer)
        check_live(model, live)
        readers = build_readers(
            attached, probes=by_name, every=every, live=live, state=state, optimizers=optimizers, check=check
        )
        self._session = Session(attached, readers, scaler, watch)
        self._session.step = readers.probes.start = resume_from or first_step
        self._table = partial(recorded_table, attached, readers, self._session.streams)
        # The session does not know the recorder, so this does not keep the recorder alive.
        self._at_end = weakref.finalize(self, close_unfinished, self._session, os.getpid())
        self._is_live_run = bool(optimizers) or live is not None
        self._why_closed = ""
        peers = Processes(processes)
        peers.check_feedback(attached.layers)
        peers.check_probes(attached.module, by_name)
        self._records = peers.records and not dry_run
        self.cost: Cost | None = None
        try:
            try:
                if peers.records and layers is None:
                    warn_unknown_layers(attached.others)
                if dry_run:
                    self.cost = estimate(readers, watch, storage, steps, shown=peers.records)
                elif self._records:
                    manifest = manifest_of(attached.layers, attached.others, meta, config, steps)
                    options: dict[str, Any] = {"if_exists": if_exists, "resume_from": resume_from}
                    self._session.open(self._path, manifest, storage=storage, steps=steps, **options)
                    self._session.begin()
            except Exception as error:
                peers.agree(self.current_step, error)
                raise
            self._session.step = peers.agree(self.current_step)
        except BaseException:
            self._abandon()
            raise
        watch.count_all()

    def __repr__(self) -> str:
        way = "dry run" if self.cost else "recording" if self._records else "another process records"
        way = "closed" if self._why_closed else way
        table = self._table(asked=not self._why_closed)
        return f"Recorder({str(self._path)!r}, step {self.current_step}, {way})\n{table}"

    def _repr_html_(self) -> str:
        return as_html(repr(self))

    @property
    def current_step(self) -> int:
        """The number of updates applied so far."""
        return self._session.step

    def step(self, *, step: int | None = None, epoch: float | None = None, **scalars: float) -> None:
        """Call this after each update of the optimizer, or with ``step=`` after a checkpoint was loaded.

        Parameters
        ----------
        step : int, optional
            Record the model as it is now under this step, whatever the schedule: its probes, and its state
            without an update. It is for the checkpoints of a run that is over, without an optimizer.
        epoch : float, optional
            How many epochs the run has seen.
        **scalars : float
            Logged under the step *before* the update, whose weights the loss was taken with. For what was
            measured after the update, call `log` after this.

        Raises
        ------
        InputError
            An epoch or a scalar that is no number, or a ``step`` that does not grow or is one of a live run.
            The step is not counted, and the recording goes on.
        CaptureError
            The recorder is closed, the model changed, the optimizer did not make exactly one update, or a
            signal does not fit the records before. Nothing more is recorded: the store keeps what it has,
            with the status ``failed``, and each further call repeats the reason.
        """
        numbers = self._numbers(scalars)
        epoch = None if epoch is None else check_number("epoch", epoch)
        if step is not None:
            step = checked_checkpoint(step, last=self._session.last_step, is_live_run=self._is_live_run)
        if not self._records:
            self._session.step = self.current_step + 1 if step is None else step
            return
        try:
            with self._session.watch.recording():
                if step is None:
                    self._session.advance(numbers, epoch)
                else:
                    self._session.record_checkpoint(step, numbers, epoch)
        except BaseException as error:
            # Half a step may be recorded: to go on would put the next one under a wrong number.
            self._abandon(
                f"the recorder stopped at step {self.current_step}: {type(error).__name__}: {error}; "
                "what was recorded before is in the store, and the training may go on without it"
            )
            raise

    def log(self, **scalars: float) -> None:
        """Add scalars to the log under the current step.

        If a name (letters, digits, underscores) or a number is wrong, it raises InputError and logs nothing.
        """
        numbers = self._numbers(scalars)
        if self._records:
            self._session.log(numbers)

    def close(self) -> None:
        """Record the last step and close the store.

        Raises
        ------
        CaptureError
            All live signals, or a state signal asked for by name, never came. The others are in the store.
        """
        if self._why_closed or not self._records:
            self._abandon()
            return
        try:
            with self._session.watch.recording():
                self._session.finish()
        except BaseException:
            self._abandon()
            raise
        self._why_closed = _CLOSED
        self._at_end.detach()
        self._session.close()
        self._session.check_complete()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close() if kind is None else self._abandon()

    def _numbers(self, scalars: Mapping[str, Any]) -> dict[str, float]:
        if self._why_closed:
            raise CaptureError(self._why_closed)
        return checked_scalars(scalars)

    def _abandon(self, why: str = _CLOSED) -> None:
        if not self._why_closed and self._records:
            self._at_end.detach()
            self._session.abandon()
        self._why_closed = self._why_closed or why
