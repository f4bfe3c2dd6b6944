"""The small nets and runs that the advice of fadiag.capture is tried on."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import Probe, Recorder
from fadiag.rules import convert
from tests.capture.toy import Bent, labelled, loss_of

X, Y = labelled(16)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def fed():
    return convert(net())


def probes(batch=(X, Y), loss=loss_of, **options):
    return {"probe": Probe(batch, loss, **options)}


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), 0.1, **options)


def attach(at, model=None, **options):
    """Build a recorder and close it at once: what is wrong with the model or the options is said here."""
    Recorder(fed() if model is None else model, at / "run.zarr", **options).close()


def update(model, optimizer, batch=(X, Y)):
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    return loss.item()


def train(at, model=None, *, steps=3, batches=None, **options):
    """Train with a recorder that follows the optimizer; return the model."""
    model = fed() if model is None else model
    optimizer = sgd(model)
    with Recorder(model, at / "run.zarr", optimizer=optimizer, every=1, **options) as recorder:
        for step in range(steps):
            update(model, optimizer, (X, Y) if batches is None else batches[step])
            recorder.step()
    return model


class Halved(nn.Linear):
    """A linear layer with a forward pass of its own."""

    def forward(self, x):
        return super().forward(x) / 2


class Own(nn.Module):
    """A layer of somebody's own rule."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / 3)
        self.register_buffer("back", torch.randn(outputs, inputs) / 3)

    def forward(self, x):
        return Bent.apply(x, self.weight, self.back)


def mine(*, middle=Own):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), middle(8, 8), nn.Tanh(), nn.Linear(8, 3))


@contextmanager
def own_using(module, matrix):
    kept, module.back = module.back, matrix
    try:
        yield
    finally:
        module.back = kept


def straight(x, weight, matrix):
    """Return the product with ``weight`` whose backward pass takes ``matrix``, by autograd alone."""
    carried = functional.linear(x, matrix)
    return functional.linear(x.detach(), weight) + carried - carried.detach()
