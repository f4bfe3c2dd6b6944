"""Compute the training loss and the accuracy in the precision of a run."""

from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from fadiag.rules import targets
from fadiag.training.config import Config
from fadiag.training.samples import Samples

__all__ = ["Loss", "accuracy", "autocast_of", "loss_of"]


class Loss(Protocol):
    """The mean loss of a batch, times a share: that of a micro-batch in its batch."""

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor], share: float = 1.0) -> Tensor:
        """Return the loss as a scalar."""


_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CHUNK = 1000


def autocast_of(config: Config, device: torch.device) -> torch.autocast:
    """Return the context of a run's forward passes: automatic mixed precision, or nothing."""
    amp = config.train.amp
    return torch.autocast(device.type, _TYPES.get(amp), enabled=amp != "none")


def loss_of(config: Config) -> Loss:
    """Return ``loss(model, (x, y), share=1)``, the mean loss of a batch that a configuration asks for.

    Examples
    --------
    >>> loss = loss_of(Config())
    >>> loss(nn.Identity(), (torch.zeros(3, 10), torch.tensor([0, 1, 2])))
    tensor(2.3026)
    """
    smoothing, kind = config.data.smoothing, config.train.loss

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor], share: float = 1.0) -> Tensor:
        x, y = batch
        # DRTP's hidden layers learn from the targets, whatever the loss is.
        learning = targets(model, y, -share / len(y)) if config.rule == "drtp" else nullcontext()
        with autocast_of(config, y.device), learning:
            outputs = model(x)
        outputs = outputs.float() if outputs.dtype in _TYPES.values() else outputs
        if kind == "cross_entropy":
            return share * cross_entropy(outputs, y, label_smoothing=smoothing)
        classes = outputs.shape[1]
        wanted = one_hot(y, classes).to(outputs.dtype) * (1 - smoothing) + smoothing / classes
        return share * mse_loss(outputs, wanted)

    return loss


@torch.no_grad()
def accuracy(config: Config, model: nn.Module, samples: Samples) -> float:
    """Return the share of samples that the model classifies right in eval mode; put its modes back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = 0
    for first in range(0, len(samples), _CHUNK):
        indices = torch.arange(first, min(first + _CHUNK, len(samples)), device="cpu")
        x, y = samples.take(indices)
        with autocast_of(config, y.device):
            right += int((model(x).argmax(1) == y).sum())
    for module, mode in modes.items():
        module.training = mode
    return right / len(samples)
