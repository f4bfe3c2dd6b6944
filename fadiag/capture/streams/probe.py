"""A fixed batch on which the signals of every layer are read, out of band."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.capture.arguments import names_of, whole_number
from fadiag.capture.layers.adapter import unknown_layers
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.batch_guard import Contents, change_between, contents_of
from fadiag.capture.passes.error_context import name_probe
from fadiag.capture.passes.isolation import Mode, TrainingFlags, outside_of_contexts
from fadiag.capture.passes.passes import Passes
from fadiag.capture.signals.reduction import ReductionName, reduction_of
from fadiag.capture.signals.samples import Rows
from fadiag.capture.signals.signal import LayerSignals, Reading, SignalArray, batch_rows
from fadiag.capture.streams.jacobian import jacobian_cosines
from fadiag.capture.streams.null_samples import SampleSelection
from fadiag.capture.streams.nulls import mask_nulls, redraw_nulls
from fadiag.capture.streams.readings import call_attrs, reading_of
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError, CaptureWarning, InputError
from fadiag.store import Unfolding

__all__ = ["PROBE_SIGNALS", "Probe"]

#: What a probe records by default; "input" is known too.
PROBE_SIGNALS = (
    "activation",
    "modulator",
    "error_post",
    "error",
    "error_bp",
    "modulator_bp",
    "gradient",
    "gradient_bp",
)
_BACKWARD = ("error", "modulator", "gradient")


class Probe:
    """A fixed batch on which every layer's signals are read, without a trace in the run.

    Each reading runs the model's own backward pass and, on the same batch, weights, masks and random
    numbers, the true one; neither touches ``.grad``, running statistics, random states or what modules hold
    as attributes. The backward hooks of the model's modules, which may change what goes down, belong to its
    own pass only. An autocast or inference mode around the call does not count: open yours in ``loss``.

    Parameters
    ----------
    batch : any
        Handed to ``loss``, which must leave it as it is: it is not copied.
    loss : callable
        ``loss(model, batch)`` to the scalar mean loss over the batch. Nothing can check that it is the mean:
        the errors and gradients of a sum are N times as large, their directions and ranks the same.
    mode : {"eval", "train"}
        Of norms and dropout during the reading, whatever the model's own at the time. In "train" each module
        has the flag that it had when the model was last seen in training mode, at the start or in ``step()``:
        a norm frozen by ``eval()`` is frozen there too. In "eval" all are as ``model.eval()`` leaves them.
    signals : iterable of str
        Of `PROBE_SIGNALS` and "input".
    redraws : int
        Number of fresh feedbacks (all layers redrawn together, the same in every reading) whose errors'
        statistics are recorded as ``error_null_*``. A model without feedback has none.
    mask_draws : int
        Number of draws of the mask null, ``mask_null_*``, at layers with a gate or a norm.
    jacobian_vectors : int
        At most so many backward passes more of either rule, to record ``jacobian_cosine``: for each sample
        the cosine of the two backward maps from the outputs to the layer (exact with no more outputs than
        that, otherwise estimated from random output vectors). Needs feedback; 0 leaves it out.
    feedbacks : mapping of str to mapping of str to Tensor
        ``{"b": {"fc2": B}}`` records also ``error_b``, ``modulator_b``, ``gradient_b`` with these matrices in
        the backward pass of the layers named.
    every : int, iterable of int, or callable, optional
        Its own schedule; the recorder's by default.
    seed : int
        Of the random numbers of a reading and of the draws.
    reduction : {"raw", "factor"}
        What is kept of the signals of the samples: all values, or a small factor of their matrix (see
        `fadiag.capture.Factors`).
    unfolding : {"samples", "channels"}
        What the rows of a factor's matrix, and of that of the nulls, are where a signal has positions:
        samples, or their positions.
    rows : int or Subset, optional
        Which samples are kept, and the nulls are of: the first few, or a random subset; all by default. A
        gradient is that of all.

    Raises
    ------
    InputError
        An unknown signal or mode, a negative number of draws, an iterator as batch.

    Examples
    --------
    >>> Probe((1, 2), lambda model, batch: None, signals=["errors"])
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
        mode: Mode = "eval",
        signals: Iterable[str] = PROBE_SIGNALS,
        redraws: int = 0,
        mask_draws: int = 0,
        jacobian_vectors: int = 0,
        feedbacks: Mapping[str, Mapping[str, Tensor]] | None = None,
        every: int | Iterable[int] | Schedule | None = None,
        seed: int = 0,
        reduction: ReductionName = "raw",
        unfolding: Unfolding = "samples",
        rows: Rows = None,
    ) -> None:
        self.signals = names_of(signals)
        known = (*PROBE_SIGNALS, "input")
        for signal in self.signals:
            if signal not in known:
                raise InputError(f"unknown probe signal {signal!r}; there are {', '.join(known)}")
        if mode not in {"train", "eval"}:
            raise InputError(f"probe mode is {mode!r}; it is 'train' or 'eval'")
        counts = {"redraws": redraws, "mask_draws": mask_draws, "jacobian_vectors": jacobian_vectors}
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
        self.mask_draws = int(mask_draws)
        self.jacobian_vectors = int(jacobian_vectors)
        self.feedbacks = dict(feedbacks or {})
        self.schedule = None if every is None else as_schedule(every)
        self.seed = int(seed)
        self.reduction: ReductionName = reduction
        self.unfolding: Unfolding = unfolding
        self._reduce = reduction_of(reduction, unfolding, rows)
        self._contents: Contents | None = None  # at the last reading

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes of its stream in the store."""
        how = {"mode": self.mode, "reduction": self.reduction, "unfolding": self.unfolding}
        return {"kind": "probe", "loss_reduction": "mean", **how}

    def check(self, layers: Sequence[RecordedLayer]) -> None:
        """Raise InputError where ``feedbacks`` does not fit the layers."""
        by_name = {layer.name: layer for layer in layers}
        for label, matrices in self.feedbacks.items():
            if not label.isidentifier() or label in {"bp", "post", "null"}:
                raise InputError(
                    f"feedbacks has the name {label!r}; take an identifier other than bp, post, null"
                )
            for name, matrix in matrices.items():
                if name not in by_name:
                    raise InputError(
                        f"feedbacks[{label!r}] names the layer {name!r}; recorded are {', '.join(by_name)}"
                    )
                if matrix.shape != by_name[name].weight.shape:
                    raise InputError(
                        f"feedbacks[{label!r}][{name!r}] has shape {tuple(matrix.shape)}, "
                        f"the weight {tuple(by_name[name].weight.shape)}; they must be equal"
                    )

    def read(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer] = (),
        *,
        name: str = "probe",
        flags: TrainingFlags | None = None,
    ) -> list[LayerSignals]:
        """Read the signals of every call of every layer, in forward order; ``others`` are not recorded.

        Errors bear the ``name``. ``flags`` are those of the modules in mode "train"; by default those that
        they have now, where the model is in training mode.

        Raises
        ------
        CaptureError
            The batch does not fit the model, the loss is not a scalar or changes the batch, no layer received
            an error, memory is short, or mask_draws or jacobian_vectors is given without the model's last
            layer.
        """
        with name_probe(name), outside_of_contexts(model):
            self._check_batch(name)
            through = Passes(
                model,
                layers,
                others,
                self.batch,
                self.loss,
                mode=self.mode,
                seed=self.seed,
                flags=flags or TrainingFlags(model),
            )
            return self._read(through)

    def _read(self, through: Passes) -> list[LayerSignals]:
        layers, others = through.layers, through.others
        truth = through.truth()
        is_true = through.is_true(truth)
        redraws, vectors = self.redraws if truth else 0, 0 if is_true else self.jacobian_vectors
        wanted = {s for s in self.signals if not s.endswith("_bp")}
        wanted_bp = {s.removesuffix("_bp") for s in self.signals if s.endswith("_bp")}
        # Without feedback or hooks the one pass is the true one, too.
        wanted |= wanted_bp if is_true else set()
        wanted |= {"error", "modulator"} if self.mask_draws else {"error"} if vectors else set()
        own = through.run({}, wanted, keep_graph=bool(self.mask_draws or vectors))
        last = own.last or layers[-1]
        self._check_read(own, last, others)
        passes = {"": own}
        if wanted_bp or redraws or vectors:
            wanted_bp |= {"error"} if redraws or vectors else set()
            passes["_bp"] = (
                own if is_true else through.run(truth, wanted_bp, keep_graph=bool(vectors), hooks=False)
            )
        for label, matrices in self.feedbacks.items():
            passes[f"_{label}"] = through.run(matrices, _BACKWARD, hooks=False)
        k = max(1, (last.outputs or layers[-1].outputs) - 1)  # the classes less one
        cosines: Mapping[str, Any] = {}
        if vectors:
            drawn = torch.Generator().manual_seed(self.seed)
            cosines = jacobian_cosines(
                (own.calls, partial(through.under, {})),
                (passes["_bp"].calls, partial(through.under, truth, hooks=False)),
                vectors,
                drawn,
            )
        seen = []
        for call in own.calls:
            readings = {s: reading_of(s, call) for s in self.signals if s in call.values}
            for suffix, trace in passes.items():
                twin = next((c for c in trace.calls if c.name == call.name), None)
                if not suffix or twin is None:
                    continue
                for base in _BACKWARD:
                    name = f"{base}{suffix}"
                    if base in twin.values and (suffix != "_bp" or name in self.signals):
                        readings[name] = reading_of(base, twin)
            if call.name in cosines:
                readings["jacobian_cosine"] = Reading(torch.from_numpy(cosines[call.name]), ("sample",))
            seen.append({name: [reading] for name, reading in readings.items()})
        read, batch = [], batch_rows(seen) or own.calls[-1].a_shape[:1].numel()
        kept = SampleSelection(self._reduce.samples, self.unfolding, batch)
        masks = mask_nulls(through, own.calls, kept, self.mask_draws)
        nulls = redraw_nulls(through, passes["_bp"].calls, kept, k, redraws) if redraws else {}
        for call, parts in zip(own.calls, seen, strict=True):
            signals = self._reduce(call.name, parts, batch)
            for name in [name for name in signals if name.startswith("gradient")]:  # of all, whatever is kept
                signals[name] = replace(signals[name], attrs={**signals[name].attrs, "samples": batch})
            for found, draw in ((nulls, "draw"), (masks, "mask_draw")):
                for name, values in found.get(call.name, {}).items():
                    signals[name] = SignalArray(values, (draw,), kept.attrs(name, call, k))
            read.append(LayerSignals(call.name, call_attrs(call, own), signals))
        return read

    def _check_batch(self, name: str) -> None:
        now = contents_of(self.batch)
        change = "" if self._contents is None else change_between(self._contents, now)
        if change:
            warnings.warn(
                f"probe {name!r}: {change} since the last reading, so that its signals are not of one batch; "
                "give Probe a copy that nobody writes to",
                CaptureWarning,
                stacklevel=2,
            )
        self._contents = now

    def _check_read(self, own: Trace, last: RecordedLayer, others: Sequence[RecordedLayer]) -> None:
        how = "with an adapter " if last.adapter is unknown_layers else ""
        for what in ("mask_draws", "jacobian_vectors"):
            if last in others and getattr(self, what):
                raise CaptureError(
                    f"{what} needs the error of the model's last layer, {last.name!r}, which is not "
                    f"recorded; add it to layers=[...] {how}or "
                    f"leave {what} out"
                )
        if all(call.a_shape.numel() == 0 for call in own.calls):  # not of an expert that nothing was sent to
            raise CaptureError("the batch is empty; give Probe a batch with at least one sample")
