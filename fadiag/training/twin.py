"""Train a twin under Feedback Alignment next to a run whose backward pass borrows its gates."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from fadiag.capture.passes.isolation import Mode, TrainingFlags, isolated
from fadiag.training.config import Config
from fadiag.training.layer_order import layers_in_order
from fadiag.training.learning_rule import apply_rule
from fadiag.training.loss import Loss, loss_of
from fadiag.training.optimizers import build_optimizers, clip_gradients

__all__ = ["Twin", "build_twin"]


@dataclass(frozen=True)
class Twin:
    """A network with the run's first weights and batches that learns by Feedback Alignment.

    Attributes
    ----------
    model : nn.Module
    optimizers : sequence of torch.optim.Optimizer
        Configured as the run's own.
    loss : Loss
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    loss: Loss

    def learn(self, batch: tuple[Tensor, Tensor], share: float, scaler: torch.amp.GradScaler) -> float:
        """Add the gradients of a batch and return its loss; the run's next pass borrows the gates of this."""
        loss = self.loss(self.model, batch, share)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def clip(self, scaler: torch.amp.GradScaler, largest: float) -> None:
        """Scale the twin's gradients down to a largest norm, as the run's are."""
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)
        clip_gradients(self.model.parameters(), (), largest)

    def lending(self, loss: Loss) -> Loss:
        """Return a loss for probes: the twin sees each batch before the run's network, and stays as it is."""

        def lent(model: nn.Module, batch: tuple[Tensor, Tensor], share: float = 1.0) -> Tensor:
            mode: Mode = "train" if model.training else "eval"
            with isolated(self.model, TrainingFlags(self.model), mode=mode, seed=0), torch.no_grad():
                self.loss(self.model, batch)
            return loss(model, batch, share)

        return lent


def build_twin(config: Config, model: nn.Module, example: Tensor) -> Twin:
    """Return the twin of a network that has its first weights and is not yet converted.

    Parameters
    ----------
    config : Config
        The run's.
    model : nn.Module
    example : Tensor
        Some inputs.
    """
    config = replace(config, rule="fa")
    twin = deepcopy(model)
    layers = layers_in_order(twin, example)
    optimizers, _ = build_optimizers(config, apply_rule(config, twin, layers, example), layers)
    return Twin(twin.train(), optimizers, loss_of(config))
