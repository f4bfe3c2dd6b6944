"""The weights and what the optimiser does to them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fadiag.capture.arrays import matrix_of, to_array
from fadiag.capture.layers import RecordedLayer, owners_of
from fadiag.capture.signals import LayerSignals, Signal, kernel_attrs, layer_attrs
from fadiag.errors import CaptureError, InputError

__all__ = ["STATE_SIGNALS", "StateReader", "choose_state_signals", "rounding_floor"]

#: Those from "gradient" on need the optimiser. "feedback" is that of the rules that change it.
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
_EXPONENT_BITS = {
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}
#: Above this share of rounding an update is not to be trusted.
ROUNDING_LIMIT = 1e-3


def choose_state_signals(
    asked: Iterable[str] | None, optimizers: Sequence[Any], layers: Sequence[RecordedLayer]
) -> tuple[str, ...]:
    """Return the state signals to record: all that can be, or those asked for.

    Raises
    ------
    InputError
        An unknown signal, one that cannot be known without the optimiser, or an optimiser that has none of
        the recorded weights.
    """
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    trained = [layer for layer in layers if layer.weight.requires_grad]
    if optimizers and trained and not any(id(layer.weight) in held for layer in trained):
        raise InputError(
            f"the optimizer has none of the recorded weights ({trained[0].name!r}, ...), so its gradients "
            "and updates would not be theirs; build it from this model's parameters, or leave optimizer= out"
        )
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


def rounding_floor(weight: Tensor, update: Tensor) -> Tensor:
    r"""Return the share of an update that is the rounding of the weight it was taken from.

    Both weights are stored with an error of rms spacing / sqrt(12) an entry, the spacing being that of the
    weight's own float type (which the store may have widened): sqrt(sum spacing(W)^2 / 12) / \|update\|_F.
    Above `ROUNDING_LIMIT` the update's ranks say more of the rounding than of the update.

    Examples
    --------
    >>> import torch
    >>> round(float(rounding_floor(torch.ones(3), torch.full((3,), 1e-3))) * 1e5, 2)
    3.44
    """
    integers, exponent = _EXPONENT_BITS[weight.dtype]
    # The bits of the exponent alone are the power of two at or below |W|, which is the spacing over eps.
    power = (weight.view(integers) & exponent).view(weight.dtype)
    rounding = torch.linalg.vector_norm(power, dtype=torch.float64) * torch.finfo(weight.dtype).eps / 12**0.5
    share: Tensor = rounding / torch.linalg.vector_norm(update, dtype=torch.float64)
    return share


class StateReader:
    """Reads one step's state: begun before the update (W_s), ended after it (W_(s+1)).

    Tied weights are read once, under the first layer that has them. A feedback that changes is read when the
    optimiser steps, before it writes: that is the last pass's of this step, the one really used. A gradient
    that is sparse (a table's) is read dense.
    """

    def __init__(
        self,
        layers: Sequence[RecordedLayer],
        signals: Collection[str],
        optimizers: Sequence[Any],
        whole: Sequence[RecordedLayer] = (),
    ) -> None:
        self._layers = list(owners_of(layers).values())
        self._kinds = [(layer.weight.shape, layer.weight.dtype) for layer in self._layers]
        self._whole = whole or layers
        self._order = {layer.name: i for i, layer in enumerate(self._whole)}
        self._signals = signals
        self._optimizers = optimizers
        self._before: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._gradients: dict[int, Tensor] = {}
        self._feedbacks: dict[int, Tensor] = {}
        self._stepped = False
        self._handles: list[Any] = []

    def _check(self) -> None:
        for layer, (shape, dtype) in zip(self._layers, self._kinds, strict=True):
            weight = layer.weight
            if (weight.shape, weight.dtype) != (shape, dtype):
                raise CaptureError(
                    f"the weight of layer {layer.name!r} was {dtype} {tuple(shape)} and is now "
                    f"{weight.dtype} {tuple(weight.shape)}: the model changed in mid-run; "
                    "record the changed model into a store of its own"
                )

    def begin(self) -> None:
        """Copy the weights and wait for the optimiser's step."""
        self._check()
        self._before = {
            i: (x.weight.detach().clone(), None if x.bias is None else x.bias.detach().clone())
            for i, x in enumerate(self._layers)
        }
        self._read_feedbacks()
        if {"gradient", "feedback"} & set(self._signals):
            self._handles = [o.register_step_pre_hook(self._on_step) for o in self._optimizers]

    def _read_feedbacks(self) -> None:
        for i, layer in enumerate(self._layers):
            if not layer.adapter.feedback_is_fixed(layer.module) and layer.feedback is not None:
                self._feedbacks[i] = layer.feedback.detach().clone()

    def _on_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._stepped:  # before a second optimiser's step the weights have changed
            self._stepped = True
            self._read_feedbacks()
        # Cloned, since an optimiser may overwrite grad. A fused one under a GradScaler gets it scaled.
        scale = getattr(optimizer, "grad_scale", None)
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for i, layer in enumerate(self._layers):
            gradient = layer.weight.grad
            if id(layer.weight) in own and gradient is not None:
                taken = gradient.detach().to_dense().clone()
                self._gradients[i] = taken if scale is None else taken / scale.to(taken.device)

    def abandon(self) -> None:
        """Stop waiting and forget what was begun."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._stepped = [], False
        self._before, self._gradients, self._feedbacks = {}, {}, {}

    def end(self, *, updated: bool) -> list[LayerSignals]:
        """Return the state of the step begun; without an update where the run ended before one.

        Raises
        ------
        CaptureError
            A weight has another shape or type than at first.
        """
        self._check()
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
                found["momentum"] = self._momentum(layer.weight)
                update = layer.weight.detach() - weight
                found["update"] = update
                # A layer that stood still (frozen, say) has no floor to speak of.
                if weight.dtype in _EXPONENT_BITS and update.any():
                    found["update_rounding_floor"] = rounding_floor(weight, update)
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
            if name == "update_rounding_floor":
                signals[name] = Signal(np.array(value.item()), (), {"limit": ROUNDING_LIMIT})
            elif name.startswith("bias"):
                signals[name] = Signal(to_array(value), ("out",))
            else:
                signals[name] = Signal(
                    to_array(matrix_of(value)), layer.adapter.weight_dims, kernel_attrs(layer.weight)
                )
        attrs = layer_attrs(layer, self._order[layer.name], len(self._order), self._whole[-1])
        return LayerSignals(layer.name, attrs, signals)
