"""LiveReader reads the signals of training batches through hooks on the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from fadiag.capture.layers.selection import RecordedLayer
from fadiag.capture.passes.isolation import is_out_of_band
from fadiag.capture.signals.arrays import HALF
from fadiag.capture.signals.layer_signals import LayerSignals, SignalTensor, batch_size
from fadiag.capture.signals.reduction import Auto
from fadiag.capture.streams.call_signals import call_attrs, is_table, read_signal
from fadiag.capture.streams.live import Live
from fadiag.capture.tracing.declared_ops import DeclaredOps
from fadiag.capture.tracing.grad_hooks import Purpose
from fadiag.capture.tracing.layer_call import Call
from fadiag.capture.tracing.module_hooks import Hook, attach_hooks
from fadiag.capture.tracing.trace import Trace
from fadiag.errors import CaptureError
from fadiag.signals import SIGNALS

__all__ = ["LiveReader"]


class LiveReader:
    """Reads the forward and backward passes of training steps.

    `arm` attaches the hooks before a step, and `disarm` removes them after it. Between recorded steps the
    model has no hooks.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of RecordedLayer
    live : Live
    others : sequence of RecordedLayer
        The layers that are not recorded. Their calls are counted.
    ops : DeclaredOps, optional

    Attributes
    ----------
    asked : Live
    scale : float or None
        The factor by which a GradScaler multiplies the loss. Signals of the backward pass are divided by it.
        None between recorded steps.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        live: Live,
        others: Sequence[RecordedLayer] = (),
        ops: DeclaredOps | None = None,
    ) -> None:
        self.asked = live
        self.scale: float | None = None
        self._model = model
        self._layers = layers
        self._others = others
        self._ops = ops or DeclaredOps()
        self._reduce = live.reduce()
        self._handles: list[RemovableHandle] = []
        self._traces: list[Trace] = []
        self._running: Trace | None = None
        self._saw_transform = False

    def restore(
        self, capacities: Mapping[tuple[str, str], int], reduction: Literal["raw", "factor"] | None
    ) -> None:
        """Take over the capacities (by layer and array) and the reduction of an earlier session."""
        self._reduce.samples.restore(capacities)
        if reduction is not None and isinstance(self._reduce, Auto):
            self._reduce.adopt(reduction)

    def arm(self, scale: float = 1.0) -> None:
        """Attach the hooks to the model."""
        self.scale = scale
        self._saw_transform = False
        self._handles = attach_hooks(self._layers, self._others, lambda: self._running, self._ops.modules)
        self._handles.append(self._model.register_forward_pre_hook(Hook(self._on_model_call)))
        self._handles.append(self._model.register_forward_hook(Hook(self._on_model_output), always_call=True))

    def _on_model_call(self, module: nn.Module, inputs: Any) -> None:
        if _is_transformed():
            # A compiled model gets the error about compiled copies.
            self._saw_transform = self._saw_transform or not torch.compiler.is_compiling()
        elif torch.is_grad_enabled() and self._running is None and not is_out_of_band():
            self._running = Trace(self.asked.signals, ops=self._ops)
            self._running.__enter__()  # type: ignore[no-untyped-call]
        if self._running is not None:
            self._running.enter_model()

    def _on_model_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._running is not None and self._running.leave_model(output):
            self._running.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._running.forget_tensors()
            self._running.note_weights()
            self._traces.append(self._running)
            self._running = None

    def abandon(self) -> None:
        """Remove the hooks and discard the recorded passes."""
        if self._running is not None:  # the forward pass was interrupted, and its last hook did not run
            self._running.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._running.stop()
            self._running = None
        for handle in self._handles:
            handle.remove()
        for trace in self._traces:
            trace.stop()
        self._handles, self._traces, self.scale = [], [], None

    def disarm(self, step: int) -> list[LayerSignals]:
        """Remove the hooks and return the signals of the step.

        Raises
        ------
        CaptureError
            No backward pass went through the recorded layers.
        """
        traces, scale = self._traces, 1.0 if self.scale is None else self.scale
        interrupted = self._running is not None
        self.abandon()
        for trace in traces:
            trace.finish()
        traces = [trace for trace in traces if any(call.got_gradient for call in trace.calls)]
        # The pass of an attack or a penalty went backward to the input only, not to a weight.
        purpose = max((trace.purpose for trace in traces), default=Purpose.NONE)
        traces = [trace for trace in traces if trace.purpose == purpose]
        if not traces and interrupted:
            raise CaptureError(
                f"a forward pass of step {step} was interrupted, so the recorder treated the next passes as "
                "a part of it; close the recorder when the training is interrupted, and go on with "
                "resume_from="
            )
        if not traces and self._saw_transform:
            raise CaptureError(
                f"live recording saw a backward pass in step {step} only inside a transformation of "
                "torch.func (grad, vmap, jacrev) or a trace, where it cannot see signals; train by "
                "loss.backward(), or leave live= out and record a Probe"
            )
        if not traces:
            raise CaptureError(
                f"live recording saw no backward pass in step {step}; call the recorded model itself (not "
                "a compiled copy of it) and loss.backward() before recorder.step(), or leave live= out"
            )
        first: dict[str, tuple[Call, Trace]] = {}  # micro-batches may call different layers
        parts: dict[str, dict[str, list[SignalTensor]]] = {}
        batch = 0
        for trace in traces:
            read = [self._read(call, scale) for call in trace.calls]
            seen = ({name: [one] for name, one in signals.items()} for signals in read)
            batch += batch_size(seen, trace.outputs)
            for call, signals in zip(trace.calls, read, strict=True):
                first.setdefault(call.name, (call, trace))
                of_call = parts.setdefault(call.name, {})
                for name, one in signals.items():
                    of_call.setdefault(name, []).append(one)
        calls = sorted(first.values(), key=lambda found: found[0].order)
        samples = self._reduce.samples
        samples.tables = {call.name for call, _ in calls if is_table(call)}
        recorded = samples.recorded_of(batch)
        if isinstance(self._reduce, Auto):
            self._reduce.choose(parts.values(), batch)
        return [
            LayerSignals(
                call.name,
                call_attrs(call, trace),
                self._reduce(call.name, parts[call.name], batch),
                recorded,
                samples.room_of(call.name),
            )
            for call, trace in calls
        ]

    def _read(self, call: Call, scale: float) -> dict[str, SignalTensor]:
        return {
            name: _unscaled(read_signal(name, call), scale if SIGNALS[name].backward else 1.0)
            for name in self.asked.signals
            if name in call.values
        }


def _is_transformed() -> bool:
    """Return whether a pass runs inside torch.func or is traced; it is then not a training pass."""
    interpreter = torch._C._functorch.peek_interpreter_stack()
    return interpreter is not None or torch.jit.is_tracing() or torch.compiler.is_compiling()


def _unscaled(signal: SignalTensor, scale: float) -> SignalTensor:
    if scale == 1.0:
        return signal
    values = signal.values.float() if signal.values.dtype in HALF else signal.values
    return replace(signal, values=values / scale)
