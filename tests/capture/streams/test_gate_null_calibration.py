"""Test that on untrained networks an error's rank lies anywhere among its gate null draws."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fadiag import spectra
from fadiag.capture import DEFAULT_ADAPTERS, Probe
from fadiag.capture.layers.selection import choose_layers
from fadiag.rules import convert
from tests.capture.toy import loss_of

NETS, DRAWS, N = 120, 39, 16


def _chain(gate, *, norm=False, drop=False):
    layers, width = [], 12
    for inputs in (10, width):
        layers += [nn.Linear(inputs, width)]
        layers += [nn.BatchNorm1d(width)] if norm else []
        layers += [gate()]
        layers += [nn.Dropout(0.3)] if drop else []
    return nn.Sequential(*layers, nn.Linear(width, 5))


def _images(pool, *, norm=False):
    layers = [nn.Unflatten(1, (2, 6, 6)), nn.Conv2d(2, 6, 3, padding=1)]
    layers += [nn.BatchNorm2d(6)] if norm else []
    layers += [nn.ReLU(), pool(2), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)]
    return nn.Sequential(*layers)


LINEAR = {
    "relu": partial(_chain, nn.ReLU),
    "gelu": partial(_chain, nn.GELU),
    "norm": partial(_chain, nn.ReLU, norm=True),
    "dropout": partial(_chain, nn.ReLU, drop=True),
}
CONVOLUTIONAL = {
    "max-pool": partial(_images, nn.MaxPool2d),
    "average pool": partial(_images, nn.AvgPool2d),
    "norm of images": partial(_images, nn.MaxPool2d, norm=True),
}
ROWS = [
    *product(LINEAR, ("fa", "bp"), ("samples",)),
    *product(CONVOLUTIONAL, ("fa", "bp"), ("samples", "channels")),
]
#: The statistics of a row: two ranks of two layers.
CELLS = 4 * len(ROWS)


def _gaussian(model, generator):
    """Draw the weights with the variance that torch gives them, but Gaussian.

    The null is exact for FA at any scale. For BP it is not once the outputs are large: they make the error
    of the output layer depend on the weight that sends it down.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1:
            scale = (3 * parameter[0].numel()) ** -0.5
            parameter.data.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def _ranks(error, unfolding):
    rows = np.moveaxis(error, 1, -1).reshape(-1, error.shape[1]) if unfolding == "channels" else error
    matrix = rows.reshape(len(rows), -1).astype(np.float64)
    return (
        spectra.participation_ratio(matrix),
        spectra.effective_rank(spectra.centered(matrix)),
    )


def _places(build, rule, unfolding):
    """Return where each net's rank lies among its draws, in (0, 1), by layer and rank; ties at random."""
    ties = np.random.default_rng(0)
    found = []
    for net in range(NETS):
        generator = torch.Generator().manual_seed(net)
        model = convert(_gaussian(build(), generator), rule=rule, seed=net)
        inputs = 10 if isinstance(model[0], nn.Linear) else 72
        batch = torch.randn(N, inputs, generator=generator), torch.randint(5, (N,), generator=generator)
        probe = Probe(
            batch, loss_of, mode="train", signals=["error"], gate_draws=DRAWS, unfolding=unfolding, seed=net
        )
        read = probe.read(model, choose_layers(model, DEFAULT_ADAPTERS, None))
        for layer in read[:-1]:
            raw, centered = (
                layer.signals[f"gate_null_spectrum_{how}"].array.astype(np.float64)
                for how in ("raw", "centered")
            )
            draws = (
                spectra.participation_ratio_of_spectrum(raw),
                spectra.effective_rank_of_spectrum(centered),
            )
            for one, null in zip(_ranks(layer.signals["error"].array, unfolding), draws, strict=True):
                found.append((np.sum(null < one) + ties.random()) / (DRAWS + 1))
    return np.reshape(found, (NETS, -1)).T


def _slow_but_one(row):
    return pytest.param(*row, marks=[] if row == ("relu", "fa", "samples") else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "rule", "unfolding"), [_slow_but_one(row) for row in ROWS])
def test_the_gate_null_holds(kind, rule, unfolding):
    for cell in _places((LINEAR | CONVOLUTIONAL)[kind], rule, unfolding):
        assert stats.kstest(cell, "uniform").pvalue > 0.01 / CELLS
        for tail in (cell < 0.05, cell > 0.95):
            assert stats.binomtest(int(tail.sum()), NETS, 0.05).pvalue > 0.01 / (2 * CELLS)
