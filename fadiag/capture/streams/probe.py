"""Read the signals of every layer on a fixed batch, apart from the training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from fadiag.capture.arguments import call_text, names_of, whole_number
from fadiag.capture.checks.probe_checks import ProbeChecks
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.batch_guard import Contents, change_between, contents_of, describe_contents
from fadiag.capture.passes.error_context import name_probe
from fadiag.capture.passes.isolation import Mode, TrainingFlags, outside_of_contexts
from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.signals.reduction import Auto, ReductionName, reduction_of
from fadiag.capture.signals.samples import Rows
from fadiag.capture.streams.probe_feedbacks import check_feedbacks
from fadiag.capture.streams.probe_signals import ProbeRequest, read_signals
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.warn import warn_user
from fadiag.errors import InputError
from fadiag.signals import signals_of
from fadiag.store import Unfolding

__all__ = ["PROBE_SIGNALS", "Probe"]

#: The signals that a probe records by default.
PROBE_SIGNALS = tuple(signal.name for signal in signals_of("probe") if not signal.optional)
#: The signals that may be asked for by name. The Jacobian's cosine has an option of its own.
_BY_NAME = tuple(signal.name for signal in signals_of("probe") if signal.name != "jacobian_cosine")


class Probe:
    """A fixed batch on which every layer's signals are read, without any effect on the run.

    Each reading runs the model's own backward pass and the exact one on the same batch, weights, dropout
    masks and random numbers. Neither changes ``.grad``, running statistics, random states or the attributes
    of modules. Backward hooks of the user's, which may change gradients, run in the model's own pass only.
    Autocast or inference mode around the reading has no effect: open yours in ``loss``.

    The keywords come in groups. ``signals`` to ``feedbacks`` say what to read, ``redraws`` to ``null_every``
    which nulls to draw, ``every`` and ``check_every`` when to read. ``mode`` and ``seed`` say how to run the
    model, and ``reduction`` to ``rows`` how much to store.

    Parameters
    ----------
    batch : any
        The second argument of ``loss``. It is not copied, so nobody may write to it.
    loss : callable
        ``loss(model, batch)`` returns the scalar mean loss over the batch. The probe cannot check that it is
        the mean: errors and gradients of a sum are N times as large, with the same directions and ranks.
    signals : iterable of str
        Names from `PROBE_SIGNALS`, and "input".
    jacobian_vectors : int
        The largest number of further backward passes of each rule, for ``jacobian_cosine``. For each sample
        it is the cosine of the two backward maps from the outputs to the layer. With no more outputs than
        vectors it is exact, otherwise estimated from random vectors. Needs feedback; 0 leaves it out.
    feedbacks : mapping of str to mapping of str to Tensor
        ``{"b": {"fc2": B}}`` adds a backward pass with the matrix B in layer ``fc2``. Its signals are
        recorded as ``error_b``, ``modulator_b`` and ``gradient_b``. Where ``fc2`` gets direct feedback, B is
        in F's place.
    redraws : int
        How often to draw fresh feedback, for all layers together. Every reading uses the same draws.
        Statistics of the errors under each draw are recorded as ``error_null_*``. Needs feedback.
    gate_draws : int
        The number of draws of the gate null, recorded as ``gate_null_*``: the credit's directions are drawn
        anew, its spectrum and the gates stay. The attribute ``no_gate_null`` says why a layer has none.
    null_every : int, iterable of int, or callable, optional
        When both nulls are drawn: at these steps, if the probe is read there, and at the end of the run. By
        default in the first record and the last.
    every : int, iterable of int, or callable, optional
        The probe's own schedule; the recorder's by default.
    check_every : int, iterable of int, or callable, optional
        The readings at which error_bp is checked, in addition to the first one (see ``Recorder(check=)``).
    mode : {"eval", "train"}
        The mode of norms and dropout during the reading, whatever the mode of the model. In "eval" all flags
        are as ``model.eval()`` sets them. In "train" each module has the flag that it had in the model's last
        training mode, at the start or in ``step()``. So a norm frozen by ``eval()`` stays frozen.
    seed : int
        The seed of the random numbers in a reading, and of the draws.
    reduction : {"auto", "raw", "factor"}
        How much of the signals is stored: all values, or a small factor of their matrix (see
        `fadiag.capture.Factors`). With "auto" all values, if they take at most 64 MiB a record.
    unfolding : {"samples", "channels"}
        The rows of the matrices behind factors and nulls, for a signal with positions: whole samples, or
        single positions, with the channels as columns.
    rows : int or Subset, optional
        The samples to store and to compute nulls from: the first few, or a random subset; all by default. A
        gradient is always that of all samples.

    Raises
    ------
    InputError
        An unknown signal or mode, a negative number of draws, or an iterator as batch.

    Examples
    --------
    >>> import torch
    >>> loss_of = lambda model, batch: model(batch).mean()
    >>> Probe(torch.zeros(8, 4), loss_of, every=10, redraws=99)
    Probe(float32 8×4, <lambda>, redraws=99, every=10)
    >>> Probe((1, 2), loss_of, signals=["errors"])
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: unknown probe signal 'errors'; there are activation, modulator, error_post, \
error, error_bp, modulator_bp, gradient, gradient_bp, input
    """

    def __init__(
        self,
        batch: Any,
        loss: Callable[[nn.Module, Any], Tensor],
        *,
        signals: Iterable[str] = PROBE_SIGNALS,
        jacobian_vectors: int = 0,
        feedbacks: Mapping[str, Mapping[str, Tensor]] | None = None,
        redraws: int = 0,
        gate_draws: int = 0,
        null_every: int | Iterable[int] | Schedule | None = None,
        every: int | Iterable[int] | Schedule | None = None,
        check_every: int | Iterable[int] | Schedule | None = None,
        mode: Mode = "eval",
        seed: int = 0,
        reduction: ReductionName = "auto",
        unfolding: Unfolding = "samples",
        rows: Rows = None,
    ) -> None:
        self.signals = names_of(signals)
        for signal in self.signals:
            if signal not in _BY_NAME:
                raise InputError(f"unknown probe signal {signal!r}; there are {', '.join(_BY_NAME)}")
        if mode not in {"train", "eval"}:
            raise InputError(f"probe mode is {mode!r}; it is 'train' or 'eval'")
        counts = {"redraws": redraws, "gate_draws": gate_draws, "jacobian_vectors": jacobian_vectors}
        for what, count in counts.items():
            if whole_number(count, 0) is None:
                raise InputError(f"{what} is {count!r}; give a whole number, at least 0")
        if whole_number(seed) is None:
            raise InputError(f"the probe's seed is {seed!r}; give a whole number")
        if not callable(loss):
            raise InputError(f"loss is a {type(loss).__name__}; give a callable loss(model, batch)")
        for place, (item, _) in contents_of(batch).items():
            if isinstance(item, Iterator):
                raise InputError(
                    f"{place} is a {type(item).__name__}, which gives its items only once, and a probe is "
                    "read again and again; give what it yields, say next(iter(loader))"
                )
        self.batch = batch
        self.loss = loss
        self.mode: Mode = mode
        self.redraws = int(redraws)
        self.gate_draws = int(gate_draws)
        self.null_schedule = None if null_every is None else as_schedule(null_every)
        self.jacobian_vectors = int(jacobian_vectors)
        self.feedbacks = dict(feedbacks or {})
        self.schedule = None if every is None else as_schedule(every)
        self.check_schedule = None if check_every is None else as_schedule(check_every)
        self.seed = int(seed)
        self.reduction: ReductionName = reduction
        self.unfolding: Unfolding = unfolding
        self._given = {"null_every": null_every, "every": every, "check_every": check_every, "rows": rows}
        self._reduce = reduction_of(reduction, unfolding, rows)
        self._contents: Contents | None = None  # at the last reading

    def __repr__(self) -> str:
        own = vars(self) | self._given
        options = {name: own[name] for name in Probe.__init__.__kwdefaults__ or {}}
        options["feedbacks"] = {name: list(layers) for name, layers in self.feedbacks.items()} or None
        loss = getattr(self.loss, "__qualname__", type(self.loss).__name__).rpartition("<locals>.")[2]
        return call_text(Probe.__init__, [describe_contents(contents_of(self.batch)), loss], options)

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes of its stream in the store."""
        how = {"mode": self.mode, "reduction": self.reduction, "unfolding": self.unfolding}
        return {"kind": "probe", "loss_reduction": "mean", **how}

    def adopt(self, reduction: Literal["raw", "factor"]) -> None:
        """Reduce the signals as an earlier session did, where the choice is the recorder's."""
        if isinstance(self._reduce, Auto):
            self._reduce.adopt(reduction)

    def check(self, layers: Sequence[RecordedLayer]) -> None:
        """Raise InputError if ``feedbacks`` or ``jacobian_vectors`` does not fit the layers."""
        check_feedbacks(self.feedbacks, self.jacobian_vectors, layers)

    def read(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer] = (),
        *,
        name: str = "probe",
        flags: TrainingFlags | None = None,
        nulls: bool = True,
        checks: ProbeChecks | None = None,
        ops: DeclaredOps | None = None,
    ) -> list[LayerSignals]:
        """Return the signals of every call of every layer, in forward order.

        Parameters
        ----------
        model : nn.Module
        layers : sequence of RecordedLayer
        others : sequence of RecordedLayer
            The layers that are not recorded.
        name : str
            The probe's name, for errors.
        flags : TrainingFlags, optional
            The flags of the modules in mode "train"; by default their flags now, if the model is in training
            mode.
        nulls : bool
            Whether to draw the nulls.
        checks : ProbeChecks, optional
            The checks to make; by default none.
        ops : DeclaredOps, optional
            What the user says of operations that are not known.

        Raises
        ------
        CaptureError
            The batch does not fit the model, the loss is not a scalar or changes the batch, or no layer
            received an error. Memory is short, or the nulls take too much. The last layer is not recorded,
            and jacobian_vectors needs it. A check fails.
        """
        with name_probe(name), outside_of_contexts(model):
            self._check_batch(name)
            passes = self.passes_on(model, layers, others, flags or TrainingFlags(model), ops)
            request = ProbeRequest(
                self.signals,
                self.redraws if nulls else 0,
                self.gate_draws if nulls else 0,
                self.jacobian_vectors,
                self.feedbacks,
                self.unfolding,
            )
            return read_signals(passes, request, self._reduce, checks)

    def passes_on(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        flags: TrainingFlags,
        ops: DeclaredOps | None = None,
    ) -> Passes:
        """Return the passes of this probe's batch through a model."""
        given = model, layers, others, self.batch, self.loss
        return Passes(*given, mode=self.mode, seed=self.seed, flags=flags, ops=ops or DeclaredOps())

    def _check_batch(self, name: str) -> None:
        now = contents_of(self.batch)
        change = "" if self._contents is None else change_between(self._contents, now)
        if change:
            warn_user(
                f"probe {name!r}: {change} since the last reading, so that its signals are not of one batch; "
                "give Probe a copy that nobody writes to"
            )
        self._contents = now
