"""Share the update of a weight as a matrix between Muon and normalized SGD."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["MatrixOptimizer"]


class MatrixOptimizer(torch.optim.Optimizer):
    """Update weights as matrices, with momentum and decay; a subclass defines the direction.

    A weight W with gradient G is read as a matrix of shape (outputs, all else)::

        M <- momentum M + (1 - momentum) G
        N  = momentum M + (1 - momentum) G                       (Nesterov)
        W <- (1 - lr weight_decay) W - lr sqrt(max(1, outputs / inputs)) direction(N)

    This is `torch.optim.Muon` with ``adjust_lr_fn="original"``. The gradients are not changed.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        With at least two axes each.
    lr, momentum, weight_decay : float
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def directions(self, batch: Tensor) -> Tensor:
        """Return the directions of the steps for matrices of one shape, (matrix, outputs, inputs)."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step. Matrices of one shape go through `directions` together."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[Any, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    rows = weight.shape[0]
                    key = (rows, weight.numel() // rows, weight.dtype, weight.device)
                    by_shape.setdefault(key, []).append(weight)
            for (outputs, inputs, *_), weights in by_shape.items():
                batch = torch.stack([self._nesterov(w, group["momentum"]) for w in weights])
                steps = self.directions(batch.view(len(weights), outputs, inputs))
                size = group["lr"] * max(1.0, outputs / inputs) ** 0.5
                for weight, step in zip(weights, steps, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(step.reshape(weight.shape).to(weight.dtype), alpha=-size)
        return loss

    def _nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        gradient = weight.grad
        assert gradient is not None
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        buffer = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)
