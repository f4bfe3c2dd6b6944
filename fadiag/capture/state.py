"""The weights and what the optimiser does to them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fadiag.capture.arrays import matrix_of, to_array
from fadiag.capture.layers import RecordedLayer
from fadiag.capture.signals import LayerSignals, Signal, kernel_attrs, layer_attrs
from fadiag.errors import InputError

__all__ = ["STATE_SIGNALS", "StateReader", "choose_state_signals"]

#: Those from "gradient" on need the optimiser.
STATE_SIGNALS = ("weight", "bias", "gradient", "momentum", "update", "bias_update")
_WITHOUT_OPTIMIZER = ("weight", "bias")
_MOMENTA = ("momentum_buffer", "exp_avg")


def choose_state_signals(asked: Iterable[str] | None, optimizers: Sequence[Any]) -> tuple[str, ...]:
    """Return the state signals to record: all that can be, or those asked for.

    Raises
    ------
    InputError
        An unknown signal, or one that cannot be known without the optimiser.
    """
    if asked is None:
        return STATE_SIGNALS if optimizers else _WITHOUT_OPTIMIZER
    chosen = tuple(dict.fromkeys(asked))
    for signal in chosen:
        if signal not in STATE_SIGNALS:
            raise InputError(f"unknown state signal {signal!r}; there are {', '.join(STATE_SIGNALS)}")
        if signal not in _WITHOUT_OPTIMIZER and not optimizers:
            raise InputError(
                f"state signal {signal!r} cannot be recorded without the optimiser; "
                "give Recorder(..., optimizer=optimizer)"
            )
    return chosen


class StateReader:
    """Reads one step's state: begun before the update (W_s), ended after it (W_(s+1)).

    Tied weights are read once, under the first layer that has them.
    """

    def __init__(
        self, layers: Sequence[RecordedLayer], signals: Collection[str], optimizers: Sequence[Any]
    ) -> None:
        first: dict[int, RecordedLayer] = {}
        for layer in layers:
            first.setdefault(id(layer.weight), layer)
        self._layers = list(first.values())
        self._order = {layer.name: i for i, layer in enumerate(layers)}
        self._signals = signals
        self._optimizers = optimizers
        self._before: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._gradients: dict[int, Tensor] = {}
        self._handles: list[Any] = []

    def begin(self) -> None:
        """Copy the weights and wait for the optimiser's step."""
        self._before = {
            i: (x.weight.detach().clone(), None if x.bias is None else x.bias.detach().clone())
            for i, x in enumerate(self._layers)
        }
        if "gradient" in self._signals:
            self._handles = [o.register_step_pre_hook(self._on_step) for o in self._optimizers]

    def _on_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        # Cloned, since an optimiser may overwrite grad. A fused one under a GradScaler gets it scaled.
        scale = getattr(optimizer, "grad_scale", None)
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for i, layer in enumerate(self._layers):
            gradient = layer.weight.grad
            if id(layer.weight) in own and gradient is not None:
                taken = gradient.detach().clone()
                self._gradients[i] = taken if scale is None else taken / scale.to(taken.device)

    def abandon(self) -> None:
        """Stop waiting and forget what was begun."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._before, self._gradients = [], {}, {}

    def end(self, *, updated: bool) -> list[LayerSignals]:
        """Return the state of the step begun; without an update where the run ended before one."""
        read = []
        for i, layer in enumerate(self._layers):
            weight, bias = self._before[i]
            found: dict[str, Tensor | None] = {"weight": weight, "bias": bias}
            if updated:
                found["gradient"] = self._gradients.get(i)
                found["momentum"] = self._momentum(layer.weight)
                found["update"] = layer.weight.detach() - weight
                found["bias_update"] = (
                    None if layer.bias is None or bias is None else layer.bias.detach() - bias
                )
            read.append(self._signals_of(layer, found))
        self.abandon()
        return read

    def _momentum(self, weight: Tensor) -> Tensor | None:
        for optimizer in self._optimizers:
            state: Mapping[str, Any] = optimizer.state.get(weight, {})
            for key in _MOMENTA:
                if isinstance(state.get(key), Tensor):
                    return torch.as_tensor(state[key]).clone()
        return None

    def _signals_of(self, layer: RecordedLayer, found: Mapping[str, Tensor | None]) -> LayerSignals:
        signals = {}
        for name, value in found.items():
            if value is None or name not in self._signals:
                continue
            if name.startswith("bias"):
                signals[name] = Signal(to_array(value), ("out",))
            else:
                signals[name] = Signal(to_array(matrix_of(value)), ("out", "in"), kernel_attrs(layer.weight))
        return LayerSignals(layer.name, layer_attrs(layer, self._order[layer.name]), signals)
