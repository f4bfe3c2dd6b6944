"""The weights and what the optimizer does to them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fadiag import spectra
from fadiag.capture.arguments import names_of
from fadiag.capture.layers.attributes import kernel_attrs, layer_attrs
from fadiag.capture.layers.selection import RecordedLayer, owners_of
from fadiag.capture.signals.arrays import to_array, to_arrays
from fadiag.capture.signals.signal import LayerSignals, SignalArray
from fadiag.capture.streams.optimizer_steps import OptimizerStepMonitor, holders_of
from fadiag.errors import CaptureError, InputError

__all__ = ["STATE_SIGNALS", "StateReader", "choose_state_signals"]

#: Those from "gradient" on need the optimizer. "feedback" is that of the rules that change it.
STATE_SIGNALS = (
    "weight",
    "bias",
    "feedback",
    "gradient",
    "momentum",
    "update",
    "bias_update",
    "update_rounding_floor",
)
_WITHOUT_OPTIMIZER = ("weight", "bias", "feedback")
_MOMENTA = ("momentum_buffer", "exp_avg")
#: Why a signal asked for is in no record, where only the run could tell.
_NEVER = {
    "gradient": "no recorded weight had a gradient when its optimizer stepped",
    "momentum": f"the optimizers keep no {' or '.join(_MOMENTA)}",
    "update_rounding_floor": "no recorded weight changed",
}


def choose_state_signals(
    asked: Iterable[str] | None, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]
) -> tuple[str, ...]:
    """Return the state signals to record: all that can be, or those asked for.

    Raises
    ------
    InputError
        An unknown signal, one that cannot be known without the optimizer, or an optimizer that has none of
        the recorded weights.
    """
    holders = holders_of(optimizers)
    trained = [layer for layer in layers if layer.weight.requires_grad]
    if optimizers and trained and not any(id(layer.weight) in holders for layer in trained):
        raise InputError(
            f"the optimizer has none of the recorded weights ({trained[0].name!r}, ...), so its gradients "
            "and updates would not be theirs; build it from this model's parameters, or leave optimizer= out"
        )
    if asked is None:
        return STATE_SIGNALS if optimizers else _WITHOUT_OPTIMIZER
    chosen = names_of(asked)
    for signal in chosen:
        if signal not in STATE_SIGNALS:
            raise InputError(f"unknown state signal {signal!r}; there are {', '.join(STATE_SIGNALS)}")
        if signal not in _WITHOUT_OPTIMIZER and not optimizers:
            raise InputError(
                f"state signal {signal!r} cannot be recorded without the optimizer; "
                "give Recorder(..., optimizer=optimizer)"
            )
        if (why := _absent(signal, optimizers, layers)) is not None:
            raise InputError(f"state signal {signal!r} would never be there: {why}; leave it out of state=")
    return chosen


def _absent(signal: str, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]) -> str | None:
    """Return why a signal cannot be, where that is known before the first update."""
    if signal == "feedback" and all(x.adapter.feedback_is_fixed(x.module) for x in layers):
        return "no recorded layer's feedback changes (one that stays is in the static stream)"
    if signal in {"bias", "bias_update"} and all(layer.bias is None for layer in layers):
        return "no recorded layer has a bias"
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    if signal == "momentum" and all(g.get("momentum") == 0 and "betas" not in g for g in groups):
        return f"the momentum of {type(optimizers[0]).__name__} is 0, so it keeps none"
    return None


class StateReader:
    """Reads one step's state: begun before the update (W_s), ended after it (W_(s+1)).

    Tied weights are read once, under the first layer that has them. Gradients, and a feedback that changes,
    are read when the optimizer steps, before it writes (with a closure, after its first evaluation): they
    are those of the last pass of this step at W_s, the ones really used. A gradient that is sparse (a
    table's) is read dense. ``begun`` is the step that is waited for.
    """

    def __init__(
        self,
        layers: Sequence[RecordedLayer],
        signals: Collection[str],
        optimizers: Sequence[Any],
        whole: Sequence[RecordedLayer] = (),
    ) -> None:
        self.begun: int | None = None
        self.signals = signals
        self._layers = list(owners_of(layers).values())
        self._whole = whole or layers
        self._order = {layer.name: i for i, layer in enumerate(self._whole)}
        self._optimizers = optimizers
        self._monitor = OptimizerStepMonitor(optimizers, self._read_passes)
        self._before: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._gradients: dict[int, Tensor] = {}
        self._feedbacks: dict[int, Tensor] = {}
        self._held: dict[int, list[Any]] = {}
        self._found: set[str] = set()
        self._updates = 0

    def begin(self, step: int) -> None:
        """Copy the weights and wait for the optimizer's step."""
        self.begun = step
        self._before = {
            i: (x.weight.detach().clone(), None if x.bias is None else x.bias.detach().clone())
            for i, x in enumerate(self._layers)
        }
        for i, layer in enumerate(self._layers):
            self._read_feedback(i, layer)
        self._held = holders_of(self._optimizers)
        self._monitor.listen()

    def _read_feedback(self, i: int, layer: RecordedLayer) -> None:
        if not layer.adapter.feedback_is_fixed(layer.module) and layer.feedback is not None:
            self._feedbacks[i] = layer.feedback.detach().clone()

    def _read_passes(self, optimizer: Any) -> None:
        """Read what the passes before an optimizer's step left, of the layers that it moves."""
        own = holders_of([optimizer])
        # A fused optimizer under a GradScaler gets the gradient scaled.
        scale = getattr(optimizer, "grad_scale", None)
        for i, layer in enumerate(self._layers):
            weight = layer.weight
            if id(weight) in own or id(weight) not in self._held:
                self._read_feedback(i, layer)
            if id(weight) not in own or "gradient" not in self.signals:
                continue
            self._gradients.pop(i, None)
            if weight.grad is not None:
                # Cloned, since an optimizer may overwrite grad.
                taken = weight.grad.detach().to_dense().clone()
                self._gradients[i] = taken if scale is None else taken / scale.to(taken.device)

    def abandon(self) -> None:
        """Stop waiting and forget what was begun."""
        self._monitor.leave()
        self.begun = None
        self._before, self._gradients, self._feedbacks = {}, {}, {}

    def end(self, step: int, *, updated: bool) -> list[LayerSignals]:
        """Return the state of the step begun; without an update where the run ended before one.

        Raises
        ------
        CaptureError
            The optimizers did not step once, as they should between two calls of the recorder.
        """
        if updated:
            updates = [x.weight.detach() - self._before[i][0] for i, x in enumerate(self._layers)]
            self._monitor.check(step, list(zip(self._layers, updates, strict=True)), first=not self._updates)
            self._updates += 1
            self._held = holders_of(self._optimizers)  # a group may have been added since
        else:
            self._monitor.check_none(step, self._layers)
        read = []
        for i, layer in enumerate(self._layers):
            weight, bias = self._before[i]
            found: dict[str, Tensor | None] = {
                "weight": weight,
                "bias": bias,
                "feedback": self._feedbacks.get(i),
            }
            if updated:
                found["gradient"] = self._gradients.get(i)
                found["momentum"] = _momentum(layer.weight, self._held.get(id(layer.weight), []))
                found["update"] = update = updates[i]
                if "update_rounding_floor" in self.signals:
                    found["update_rounding_floor"] = _rounding_floor(weight, update)
                found["bias_update"] = (
                    None if layer.bias is None or bias is None else layer.bias.detach() - bias
                )
            read.append(self._signals_of(layer, found))
        self.abandon()
        return read

    def check_found(self, asked: Iterable[str]) -> None:
        """Raise where a signal that was asked for by name is in no record.

        Raises
        ------
        CaptureError
            The signal is named, and why it is not there.
        """
        for signal in asked:
            if self._updates and signal not in self._found:
                why = _NEVER.get(signal, "no recorded layer has one")
                raise CaptureError(
                    f"state signal {signal!r} was asked for and is in no record: {why}; leave it "
                    "out of state= (all else is in the store)"
                )

    def _signals_of(self, layer: RecordedLayer, found: Mapping[str, Tensor | None]) -> LayerSignals:
        signals = {}
        for name, value in found.items():
            if value is None or name not in self.signals:
                continue
            if name == "update_rounding_floor":
                signals[name] = SignalArray(np.array(value.item()), (), {"limit": spectra.ROUNDING_LIMIT})
            elif name.startswith("bias"):
                signals[name] = SignalArray(to_array(value), ("out",))
            else:
                signals[name] = SignalArray(
                    to_array(layer.matrix(value)), layer.matrix_dims, kernel_attrs(layer.weight)
                )
        self._found.update(signals)
        attrs = layer_attrs(layer, self._order[layer.name], len(self._order), self._whole[-1])
        return LayerSignals(layer.name, attrs, signals)


def _momentum(weight: Tensor, holders: Sequence[Any]) -> Tensor | None:
    for optimizer in holders:
        state: Mapping[str, Any] = optimizer.state.get(weight, {})
        for key in _MOMENTA:
            if isinstance(state.get(key), Tensor):
                return torch.as_tensor(state[key]).clone()
    return None


def _rounding_floor(weight: Tensor, update: Tensor) -> Tensor | None:
    """Return the share of an update that is rounding; None if the weight did not move (a frozen one, say)."""
    if not (weight.is_floating_point() and update.any()):
        return None
    before, moved = (array.reshape(1, -1) for array in to_arrays([weight, update]))
    try:
        return torch.from_numpy(spectra.rounding_floor(before, moved, eps=torch.finfo(weight.dtype).eps))
    except InputError:  # one of the two is not finite
        return torch.tensor(torch.nan)
