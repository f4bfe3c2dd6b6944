"""Define the batch and the loss that most capture tests use, and the product of a foreign rule."""

import torch
from torch.nn import functional


def labelled(samples, dtype=torch.float32):
    """Samples of six features, each with one of three classes."""
    x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x, torch.randint(3, (samples,), generator=torch.Generator().manual_seed(1))


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def on(device, batch):
    """The batch, a tensor or a tuple of them, on a device."""
    return batch.to(device) if isinstance(batch, torch.Tensor) else tuple(x.to(device) for x in batch)


class Bent(torch.autograd.Function):
    """A product whose backward pass takes another matrix, as somebody's own rule does."""

    @staticmethod
    def forward(ctx, x, weight, matrix):
        ctx.save_for_backward(x, matrix)
        return x @ weight.T

    @staticmethod
    def backward(ctx, error):
        x, matrix = ctx.saved_tensors
        return error @ matrix, error.T @ x, None
