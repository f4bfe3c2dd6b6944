"""The training batch's own signals, heard while the run makes its own forward and backward pass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from fadiag.capture.arguments import names_of
from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.isolation import is_out_of_band
from fadiag.capture.signals.arrays import HALF
from fadiag.capture.signals.reduction import Reduction, ReductionName, reduction_of
from fadiag.capture.signals.samples import Rows
from fadiag.capture.signals.signal import LayerSignals, Reading, batch_rows
from fadiag.capture.streams.readings import call_attrs, reading_of
from fadiag.capture.streams.schedule import Schedule, as_schedule
from fadiag.capture.tracing.grad_hooks import Purpose
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.module_hooks import Hook
from fadiag.capture.tracing.trace import Trace, hang
from fadiag.errors import CaptureError, InputError
from fadiag.store import Unfolding

__all__ = ["LIVE_SIGNALS", "Live", "LiveReader", "check_live"]

#: What can be heard live.
LIVE_SIGNALS = ("activation", "input", "modulator", "error_post", "error")
_BACKWARD = frozenset({"modulator", "error_post", "error"})


@dataclass(frozen=True, init=False)
class Live:
    """Record signals of the training batches.

    The forward passes of one step that were followed by a backward pass to a recorded weight (by any, where
    none reaches one) are its micro-batches: their rows stand one below the other. A step with fewer rows than
    the first is padded with NaN, as the coordinate ``rows_valid`` tells; of one with more, the first ones are
    kept, with a warning.

    Parameters
    ----------
    signals : iterable of str
        Of `LIVE_SIGNALS`.
    every : int, iterable of int, or callable
    reduction, unfolding, rows
        What is kept of them, as `Probe` takes it.

    Raises
    ------
    InputError
        A signal that cannot be heard live, and why.

    Examples
    --------
    >>> Live(["error_bp"])
    Traceback (most recent call last):
        ...
    fadiag.errors.InputError: 'error_bp' cannot be recorded live: the training batch goes backward once, by \
the model's own rule; record it with a Probe
    """

    signals: tuple[str, ...]
    schedule: Schedule
    reduction: ReductionName
    unfolding: Unfolding
    rows: Rows

    def __init__(
        self,
        signals: Iterable[str] = ("activation", "modulator", "error"),
        *,
        every: int | Iterable[int] | Schedule = 50,
        reduction: ReductionName = "raw",
        unfolding: Unfolding = "samples",
        rows: Rows = None,
    ) -> None:
        chosen = names_of(signals)
        for signal in chosen:
            if signal.endswith("_bp"):
                raise InputError(
                    f"{signal!r} cannot be recorded live: the training batch goes backward once, by the "
                    "model's own rule; record it with a Probe"
                )
            if signal not in LIVE_SIGNALS:
                raise InputError(f"unknown live signal {signal!r}; there are {', '.join(LIVE_SIGNALS)}")
        object.__setattr__(self, "signals", chosen)
        object.__setattr__(self, "schedule", as_schedule(every))
        object.__setattr__(self, "reduction", reduction)
        object.__setattr__(self, "unfolding", unfolding)
        object.__setattr__(self, "rows", rows)
        self.reduce()  # what does not fit is told here

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes of its stream in the store."""
        how = {"reduction": self.reduction, "unfolding": self.unfolding}
        return {"kind": "live", "loss_reduction": "as trained", **how}

    def reduce(self) -> Reduction:
        """Return a fresh reduction for one run."""
        return reduction_of(self.reduction, self.unfolding, self.rows)


def check_live(model: nn.Module, live: Live) -> None:
    """Raise where the signals of a model's own passes cannot be heard."""
    if not isinstance(live, Live):
        raise InputError(f"live is a {type(live).__name__}; give a fadiag.capture.Live")
    if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
        raise CaptureError(
            "live signals of a compiled model cannot be recorded: hooks attached after compiling never fire; "
            "train the model uncompiled, or use probes, which run the module inside"
        )


class LiveReader:
    """Hears one step: armed before it, disarmed after it. Between, the model carries no hook.

    ``asked`` is what shall be heard; ``scale``, while it is armed, by what the loss is multiplied (by a
    GradScaler): errors are divided by it.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        live: Live,
        others: Sequence[RecordedLayer] = (),
    ) -> None:
        self.asked = live
        self.scale: float | None = None
        self._model = model
        self._layers = layers
        self._others = others
        self._reduce = live.reduce()
        self._handles: list[RemovableHandle] = []
        self._passes: list[Trace] = []
        self._running: Trace | None = None

    def go_on(self, rooms: Mapping[tuple[str, str], int]) -> None:
        """Keep as many samples of each signal, by layer and name, as the session before."""
        self._reduce.samples.settle(rooms)

    def arm(self, scale: float = 1.0) -> None:
        """Hang the hooks on the model."""
        self.scale = scale
        self._handles = hang(self._layers, self._others, lambda: self._running)
        self._handles.append(self._model.register_forward_pre_hook(Hook(self._begin)))
        self._handles.append(self._model.register_forward_hook(Hook(self._end), always_call=True))

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        if torch.is_grad_enabled() and self._running is None and not is_out_of_band():
            self._running = Trace(self.asked.signals)
            self._running.__enter__()  # type: ignore[no-untyped-call]
        if self._running is not None:
            self._running.begin()

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._running is not None and self._running.end(output):
            self._running.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._running.forget_tensors()
            self._running.note_weights()
            self._passes.append(self._running)
            self._running = None

    def abandon(self) -> None:
        """Take the hooks off and forget what was heard."""
        if self._running is not None:  # an interrupt ended the forward pass, after which no hook is called
            self._running.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._running.stop()
            self._running = None
        for handle in self._handles:
            handle.remove()
        for trace in self._passes:
            trace.stop()
        self._handles, self._passes, self.scale = [], [], None

    def disarm(self, step: int) -> list[LayerSignals]:
        """Take the hooks off; return what was heard.

        Raises
        ------
        CaptureError
            No backward pass went through the recorded layers.
        """
        passes, scale = self._passes, 1.0 if self.scale is None else self.scale
        interrupted = self._running is not None
        self.abandon()
        for trace in passes:
            trace.finish()
        traces = [t for t in passes if any(call.reached for call in t.calls)]
        # A pass that an attack or a penalty made went backward to the input, and to no weight.
        purpose = max((t.purpose for t in traces), default=Purpose.NONE)
        traces = [t for t in traces if t.purpose == purpose]
        if not traces and interrupted:
            raise CaptureError(
                f"a forward pass of step {step} was interrupted, and what came after it was taken for a part "
                "of it; close the recorder when the training is interrupted, and go on with resume_from="
            )
        if not traces:
            raise CaptureError(
                f"live recording heard no backward pass in step {step}; call the recorded model itself (not "
                "a compiled copy of it) and loss.backward() before recorder.step(), or leave live= out"
            )
        first: dict[str, tuple[Call, Trace]] = {}  # a micro-batch may call others than the one before
        parts: dict[str, dict[str, list[Reading]]] = {}
        batch = 0
        for trace in traces:
            read = [self._readings(call, scale) for call in trace.calls]
            batch += batch_rows({name: [one] for name, one in found.items()} for found in read)
            for call, found in zip(trace.calls, read, strict=True):
                first.setdefault(call.name, (call, trace))
                of_call = parts.setdefault(call.name, {})
                for name, one in found.items():
                    of_call.setdefault(name, []).append(one)
        return [
            LayerSignals(call.name, call_attrs(call, trace), self._reduce(call.name, parts[call.name], batch))
            for call, trace in sorted(first.values(), key=lambda found: found[0].order)
        ]

    def _readings(self, call: Call, scale: float) -> dict[str, Reading]:
        return {
            name: _unscaled(reading_of(name, call), scale if name in _BACKWARD else 1.0)
            for name in self.asked.signals
            if name in call.values
        }


def _unscaled(reading: Reading, scale: float) -> Reading:
    if scale == 1.0:
        return reading
    values = reading.values.float() if reading.values.dtype in HALF else reading.values
    return replace(reading, values=values / scale)
