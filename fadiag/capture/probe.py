"""A fixed batch on which the signals of every layer are read, out of band."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fadiag.capture.arrays import Array, rows_of
from fadiag.capture.isolation import Mode, isolated
from fadiag.capture.jacobian import jacobian_cosines
from fadiag.capture.layers import RecordedLayer, in_order, owners_of
from fadiag.capture.nulls import REDRAW_STATISTICS, Reference, mask_statistics, null_attrs
from fadiag.capture.reduction import ReductionName, Unfolding, reduction_of
from fadiag.capture.rows import Rows
from fadiag.capture.schedule import Schedule, as_schedule
from fadiag.capture.signals import LayerSignals, Reading, Signal, call_attrs, reading_of
from fadiag.capture.trace import Call, Trace, tracing
from fadiag.errors import CaptureError, InputError

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
    numbers, the true one; neither touches ``.grad``, running statistics or random states.

    Parameters
    ----------
    batch : any
        Handed to ``loss``; it is not copied.
    loss : callable
        ``loss(model, batch)`` to the scalar mean loss over the batch.
    mode : {"eval", "train"}
        Of norms and dropout during the reading.
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
        What the rows of a factor's matrix are where a signal has positions: samples, or their positions.
    rows : int or Subset, optional
        Which samples are kept: the first few, or a random subset; all by default.

    Raises
    ------
    InputError
        An unknown signal or mode, a negative number of draws.

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
        self.signals = tuple(dict.fromkeys(signals))
        known = (*PROBE_SIGNALS, "input")
        for signal in self.signals:
            if signal not in known:
                raise InputError(f"unknown probe signal {signal!r}; there are {', '.join(known)}")
        if mode not in {"train", "eval"}:
            raise InputError(f"probe mode is {mode!r}; it is 'train' or 'eval'")
        counts = {"redraws": redraws, "mask_draws": mask_draws, "jacobian_vectors": jacobian_vectors}
        for what, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise InputError(f"{what} is {count!r}; give a whole number, at least 0")
        if not callable(loss):
            raise InputError(f"loss is a {type(loss).__name__}; give a callable loss(model, batch)")
        self.batch = batch
        self.loss = loss
        self.mode: Mode = mode
        self.redraws = redraws
        self.mask_draws = mask_draws
        self.jacobian_vectors = jacobian_vectors
        self.feedbacks = dict(feedbacks or {})
        self.schedule = None if every is None else as_schedule(every)
        self.seed = seed
        self._reduce = reduction_of(reduction, unfolding, rows)

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
        self, model: nn.Module, layers: Sequence[RecordedLayer], others: Sequence[RecordedLayer] = ()
    ) -> list[LayerSignals]:
        """Read the signals of every call of every layer, in forward order; ``others`` are not recorded.

        Raises
        ------
        CaptureError
            The batch does not fit the model, the loss is not a scalar, no layer received an error, or
            mask_draws or jacobian_vectors is given without the model's last layer.
        """
        wanted = {s for s in self.signals if not s.endswith("_bp")}
        wanted_bp = {s.removesuffix("_bp") for s in self.signals if s.endswith("_bp")}
        # Of all layers: an error that came through the feedback of one left out is not the true one.
        truth = {layer.name: layer.weight.detach() for layer in layers if layer.feedback is not None}
        if others:
            with isolated(model, mode=self.mode, seed=self.seed):  # a weight may be computed when it is read
                truth |= {x.name: x.weight.detach().clone() for x in others if x.feedback is not None}
        # Without feedback the one pass is the true one, too.
        wanted |= set() if truth else wanted_bp
        wanted |= {"error", "modulator"} if self.mask_draws else set()
        trace, masks = self._pass(model, layers, others, {}, wanted=wanted, mask_draws=self.mask_draws)
        calls, last = trace.calls, trace.last or layers[-1]
        for what in ("mask_draws", "jacobian_vectors"):
            if last in others and getattr(self, what):
                raise CaptureError(
                    f"{what} needs the error of the model's last layer, {last.name!r}, which is not "
                    f"recorded; add it to layers=[...] or leave {what} out"
                )
        if any(call.a_shape.numel() == 0 for call in calls):
            raise CaptureError("the probe's batch is empty; give Probe a batch with at least one sample")
        passes = {"": calls}
        redrawn = bool(self.redraws and truth)
        if wanted_bp or redrawn:
            wanted_bp |= {"error"} if redrawn else set()
            passes["_bp"] = (
                self._pass(model, layers, others, truth, wanted=wanted_bp)[0].calls if truth else calls
            )
        for label, matrices in self.feedbacks.items():
            passes[f"_{label}"] = self._pass(model, layers, others, matrices, wanted=set(_BACKWARD))[0].calls
        k = max(1, (last.outputs or layers[-1].outputs) - 1)  # the classes less one
        nulls = self._redraw(model, layers, others, passes["_bp"], k) if redrawn else {}
        cosines = self._jacobians(model, layers, others, truth) if self.jacobian_vectors and truth else {}
        read = []
        for call in calls:
            readings = {s: reading_of(s, call) for s in self.signals if s in call.values}
            for suffix, twins in passes.items():
                twin = next((c for c in twins if c.name == call.name), None)
                if not suffix or twin is None:
                    continue
                for base in _BACKWARD:
                    name = f"{base}{suffix}"
                    if base in twin.values and (suffix != "_bp" or name in self.signals):
                        readings[name] = reading_of(base, twin)
            if call.name in cosines:
                readings["jacobian_cosine"] = Reading(torch.from_numpy(cosines[call.name]), ("sample",))
            signals = self._reduce(call.name, {name: [reading] for name, reading in readings.items()})
            for name, values in nulls.get(call.name, {}).items():
                signals[name] = Signal(values, ("draw",), null_attrs(name, call.a_shape, k))
            for name, values in masks.get(call.name, {}).items():
                signals[name] = Signal(values, ("mask_draw",), null_attrs(name, call.a_shape, k))
            read.append(LayerSignals(call.name, call_attrs(call, trace), signals))
        return read

    def _pass(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        matrices: Mapping[str, Tensor],
        *,
        wanted: Collection[str],
        mask_draws: int = 0,
        keep_graph: bool = False,
    ) -> tuple[Trace, dict[str, dict[str, Array]]]:
        """Run forward and backward once, with the given matrices in the backward pass of some layers."""
        keep_graph = keep_graph or mask_draws > 0
        weights = {id(layer.weight): layer.weight for layer in layers}
        frozen = [weight for weight in weights.values() if not weight.requires_grad]
        with isolated(model, mode=self.mode, seed=self.seed), ExitStack() as stack:
            for weight in frozen:
                weight.requires_grad_(True)
                stack.callback(weight.requires_grad_, False)
            for layer in (*layers, *others):
                if layer.name in matrices:
                    matrix = matrices[layer.name].to(layer.weight)
                    stack.enter_context(layer.adapter.using(layer.module, matrix))
            with tracing(layers, wanted, others=others, keep_edges=keep_graph) as trace:
                loss = self._loss(model)
            gradients = torch.autograd.grad(
                loss, list(weights.values()), allow_unused=True, retain_graph=keep_graph
            )
            trace.stop()
            trace.finish()
            if not any(call.heard for call in trace.calls):
                raise CaptureError(
                    f"the probe's loss reaches none of the {len(layers)} recorded layers; is it computed "
                    "under no_grad, detached, or from another model?"
                )
            by_weight = dict(zip(weights, gradients, strict=True))
            owners = owners_of(layers)
            for call in trace.calls:
                gradient = by_weight[id(call.layer.weight)]
                owned = owners[id(call.layer.weight)] is call.layer
                if "gradient" in wanted and owned and call.index == 0 and gradient is not None:
                    call.values["gradient"] = gradient.to_dense()  # that of a table may be sparse
            masks = self._masks(trace.calls, mask_draws) if mask_draws else {}
        return trace, masks

    def _jacobians(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        truth: Mapping[str, Tensor],
    ) -> dict[str, Array]:
        """Return the cosines of the two backward maps, by call."""
        own, true = (
            self._pass(model, layers, others, matrices, wanted=("error",), keep_graph=True)[0].calls
            for matrices in ({}, truth)
        )
        return jacobian_cosines(own, true, self.jacobian_vectors, torch.Generator().manual_seed(self.seed))

    def _loss(self, model: nn.Module) -> Tensor:
        try:
            loss = self.loss(model, self.batch)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            if isinstance(error, CaptureError):
                raise
            raise CaptureError(
                f"the probe's batch does not fit the model: {error}; give Probe a batch that "
                "loss(model, batch) can take"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise CaptureError(
                f"the probe's loss is not a scalar but has {what}; return the mean over the batch"
            )
        if not loss.requires_grad:
            raise CaptureError("the probe's loss has no gradient; compute it without detach() and no_grad")
        return loss.reshape(())

    def _redraw(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        others: Sequence[RecordedLayer],
        truth: Sequence[Call],
        k: int,
    ) -> dict[str, dict[str, Array]]:
        """Return the statistics of the errors under redrawn feedback, by call."""
        generator = torch.Generator().manual_seed(self.seed)
        references = {c.name: Reference(c.values["error"], k) for c in truth if "error" in c.values}
        found = {
            name: {f"error_null_{s}": np.full(self.redraws, np.nan) for s in REDRAW_STATISTICS}
            for name in references
        }
        for draw in range(self.redraws):
            matrices = {
                layer.name: layer.adapter.redrawn(layer.module, generator)
                for layer in in_order(model, (*layers, *others))
                if layer.feedback is not None
            }
            for call in self._pass(model, layers, others, matrices, wanted=("error",))[0].calls:
                if "error" in call.values and call.name in references:
                    for s, value in references[call.name].statistics(call.values["error"]).items():
                        found[call.name][f"error_null_{s}"][draw] = value
        return found

    def _masks(self, calls: Sequence[Call], draws: int) -> dict[str, dict[str, Array]]:
        """Return the statistics of the mask null, by call; layers without gate and norm have none."""
        last = next(call for call in reversed(calls) if "error" in call.values)
        delta = rows_of(last.values["error"]).cpu()
        if not bool(torch.isfinite(delta).all()):
            return {}
        spectrum = torch.linalg.svdvals(delta)
        generator = torch.Generator().manual_seed(self.seed)
        return {
            call.name: mask_statistics(call, spectrum, draws, generator)
            for call in calls
            if (call.gate or call.norm) and "modulator" in call.values and call.h_shape[0] == len(delta)
        }
