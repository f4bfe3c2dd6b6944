"""StateReader reads the weights before each update and their change by it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fadiag.capture.layers.attributes import feedback_attrs, kernel_attrs, layer_attrs
from fadiag.capture.layers.recorded_layer import RecordedLayer, owners_of
from fadiag.capture.signals.arrays import to_array
from fadiag.capture.signals.layer_signals import LayerSignals, SignalArray
from fadiag.capture.signals.rounding import rounding_floor_of
from fadiag.capture.streams.learned_feedback import check_learned_feedback
from fadiag.capture.streams.optimizer_steps import OptimizerStepMonitor, holders_of
from fadiag.capture.streams.state import why_absent, why_impossible
from fadiag.errors import CaptureError
from fadiag.signals import SIGNALS
from fadiag.spectra import ROUNDING_LIMIT

__all__ = ["StateReader"]

#: The keys of the momentum in the state of torch's optimizers.
_MOMENTA = ("momentum_buffer", "exp_avg")
#: Why a run may have no record of a requested signal.
_WHY_MISSING = {
    "gradient": "no recorded weight had a gradient when its optimizer stepped",
    "momentum": f"the optimizers store no {' or '.join(_MOMENTA)}",
    "update_rounding_floor": "no recorded weight changed",
}


class StateReader:
    """Reads the state of a step: `begin` before its update (W_s), `end` after it (W_(s+1)).

    Only complete records are written. If the process is killed before the update, the record is lost by
    design.

    Tied weights are read once, under the layer that `owners_of` names. Gradients and changing feedback are
    read when the optimizer steps, before it writes to the weights. With a closure, they are read after its
    first evaluation. So they are the values that the update used. A sparse gradient (of an embedding) is
    converted to a dense one.

    A computed weight (weight norm, spectral norm, pruning) has the value of a forward pass at that moment, in
    the module's current mode. Its update is the difference of two such values.

    Parameters
    ----------
    layers : sequence of RecordedLayer
    signals : collection of str
        The signals to record.
    optimizers : sequence of optimizers
    whole : sequence of RecordedLayer
        All layers of the model in forward order. By default, the recorded ones.

    Attributes
    ----------
    begun : int or None
        The step that waits for its update; None if no step is being read.
    """

    def __init__(
        self,
        layers: Sequence[RecordedLayer],
        signals: Collection[str],
        optimizers: Sequence[Any],
        whole: Sequence[RecordedLayer] = (),
    ) -> None:
        self.begun: int | None = None
        self._layers = list(owners_of(layers).values())
        self._whole = whole or layers
        self._order = {layer.name: i for i, layer in enumerate(self._whole)}
        self.signals = signals
        self._optimizers = optimizers
        self._monitor = OptimizerStepMonitor(optimizers, self._on_gradients)
        self._before: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._made_of: dict[int, list[Tensor]] = {}  # parameters that compute a weight
        self._gradients: dict[int, Tensor] = {}
        self._feedbacks: dict[int, Tensor] = {}
        self._holders: dict[int, list[Any]] = {}
        self._recorded: set[str] = set()
        self._updates = 0

    def record_bytes(self) -> int:
        """Return the largest size of a record in bytes."""
        total = 0
        for layer in self._layers:
            for name in self._expected_of(layer):
                like = {"weight": layer.weight, "bias": layer.bias}.get(SIGNALS[name].shape)
                total += 8 if like is None else like.numel() * max(4, like.element_size())
        return total

    def expected(self) -> dict[str, list[str]]:
        """Return the signals that a record may hold of each layer."""
        return {layer.name: self._expected_of(layer) for layer in self._layers}

    def _expected_of(self, layer: RecordedLayer) -> list[str]:
        absent = set() if layer.bias is not None else {s for s in self.signals if SIGNALS[s].shape == "bias"}
        if layer.feedback_is_fixed:
            absent.add("feedback")
        possible = (s for s in self.signals if s not in absent and self._is_possible(s))
        return [s for s in possible if not why_absent(s, layer)]

    def _is_possible(self, name: str) -> bool:
        return why_impossible(name, self._optimizers, self._layers) is None

    def begin(self, step: int) -> None:
        """Copy the weights and watch for the optimizer's step."""
        self.begun = step
        self._before = {
            i: (x.weight.detach().clone(), None if x.bias is None else x.bias.detach().clone())
            for i, x in enumerate(self._layers)
        }
        for i, layer in enumerate(self._layers):
            self._read_feedback(i, layer)
        self._made_of = {
            i: [p.detach().clone() for p in x.trained.values()]
            for i, x in enumerate(self._layers)
            if x.parametrization
        }
        self._holders = holders_of(self._optimizers)
        self._monitor.start()

    def _read_feedback(self, i: int, layer: RecordedLayer) -> None:
        if not layer.feedback_is_fixed and layer.feedback is not None:
            self._feedbacks[i] = layer.feedback.detach().clone()

    def _on_gradients(self, optimizer: Any) -> None:
        """Read the gradients and the feedback of the layers that an optimizer will now update."""
        own = holders_of([optimizer])
        # A fused optimizer divides by the GradScaler's scale only inside its step.
        scale = getattr(optimizer, "grad_scale", None)
        for i, layer in enumerate(self._layers):
            trained = [id(p) for p in layer.trained.values()]
            is_held = any(p in own for p in trained)
            if is_held or not any(p in self._holders for p in trained):
                self._read_feedback(i, layer)
            if not is_held or "gradient" not in self.signals or why_absent("gradient", layer):
                continue
            self._gradients.pop(i, None)
            weight = layer.weight
            if weight.grad is not None:
                # Cloned, because an optimizer may overwrite grad.
                gradient = weight.grad.detach().to_dense().clone()
                self._gradients[i] = gradient if scale is None else gradient / scale.to(gradient.device)

    def abandon(self) -> None:
        """Stop waiting for the update and discard the values that were read."""
        self._monitor.stop()
        self.begun = None
        self._before, self._made_of, self._gradients, self._feedbacks = {}, {}, {}, {}

    def end(self, step: int, *, updated: bool) -> list[LayerSignals]:
        """Return the state of the step and stop reading.

        Parameters
        ----------
        step : int
        updated : bool
            False at the end of a run, because the last step has no update.

        Raises
        ------
        CaptureError
            The optimizers did not step exactly once since `begin`, or they do not update a learned feedback
            as they update its weight.
        """
        if updated:
            updates = [x.weight.detach() - self._before[i][0] for i, x in enumerate(self._layers)]
            changes = [(x, self._changes(i, updates[i])) for i, x in enumerate(self._layers)]
            self._monitor.check(step, changes, first=not self._updates)
            if not self._updates:
                check_learned_feedback(self._whole, self._optimizers)
            self._updates += 1
            self._holders = holders_of(self._optimizers)  # a group may have been added
        else:
            self._monitor.check_none(step, self._layers)
        read = []
        for i, layer in enumerate(self._layers):
            weight, bias = self._before[i]
            found: dict[str, Tensor | float | None] = {
                "weight": weight,
                "bias": bias,
                "feedback": self._feedbacks.get(i),
            }
            if updated:
                found["gradient"] = self._gradients.get(i)
                if not why_absent("momentum", layer):
                    found["momentum"] = _momentum(layer.weight, self._holders.get(layer.weight_id, []))
                found["update"] = update = updates[i]
                if "update_rounding_floor" in self.signals:
                    found["update_rounding_floor"] = rounding_floor_of(weight, update)
                found["bias_update"] = (
                    None if layer.bias is None or bias is None else layer.bias.detach() - bias
                )
            read.append(self._signals_of(layer, found))
        self.abandon()
        return read

    def _changes(self, i: int, update: Tensor) -> list[Tensor]:
        """Return the changes of the tensors that an optimizer updates for a layer's weight."""
        if i not in self._made_of:
            return [update]
        now = self._layers[i].trained.values()
        return [p.detach() - before for p, before in zip(now, self._made_of[i], strict=True)]

    def check_found(self, asked: Iterable[str]) -> None:
        """Raise if no record holds a signal that the user requested by name.

        Raises
        ------
        CaptureError
            Names the first such signal and why it is missing.
        """
        for signal in asked:
            if self._updates and signal not in self._recorded:
                why = _WHY_MISSING.get(signal, "no recorded layer has one")
                raise CaptureError(
                    f"state signal {signal!r} was asked for and is in no record: {why}; leave it "
                    "out of state= (all else is in the store)"
                )

    def _signals_of(self, layer: RecordedLayer, found: Mapping[str, Tensor | float | None]) -> LayerSignals:
        signals = {}
        for name, value in found.items():
            if value is None or name not in self.signals:
                continue
            if not isinstance(value, Tensor):
                signals[name] = SignalArray(np.array(value), (), {"limit": ROUNDING_LIMIT})
            elif SIGNALS[name].shape == "bias":
                signals[name] = SignalArray(to_array(value), ("out",))
            elif name == "feedback":
                matrix = to_array(layer.feedback_matrix(value))
                signals[name] = SignalArray(matrix, layer.feedback_dims, feedback_attrs(layer))
            else:
                signals[name] = SignalArray(
                    to_array(layer.matrix(value)), layer.matrix_dims, kernel_attrs(layer.weight)
                )
        self._recorded.update(signals)
        attrs = layer_attrs(layer, self._order[layer.name], len(self._order), self._whole[-1])
        absent = {f"no_{name}": why_absent(name, layer) for name in self.signals}
        attrs |= {name: why for name, why in absent.items() if why}
        return LayerSignals(layer.name, attrs, signals)


def _momentum(weight: Tensor, holders: Sequence[Any]) -> Tensor | None:
    for optimizer in holders:
        state: Mapping[str, Any] = optimizer.state.get(weight, {})
        for key in _MOMENTA:
            if isinstance(value := state.get(key), Tensor):
                return value.clone()
    return None
