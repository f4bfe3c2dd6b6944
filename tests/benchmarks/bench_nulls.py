"""What the draws of the nulls cost, in CPU time.

    python tests/benchmarks/bench_nulls.py [epochs]

A draw over its backward pass and one float64 Gram matrix and eigvalsh for each layer and spectrum; then a
training run of the shape of the default CIFAR-10 study (synthetic images), with and without the nulls.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import fadiag
from fadiag.capture import DEFAULT_ADAPTERS, Probe, Recorder
from fadiag.capture.layers.selection import choose_layers

SIZES = (3072, 256, 256, 256, 10)
SAMPLES, BATCH, TRAIN = 256, 128, 10_000
REDRAWS, GATE_DRAWS = 99, 20


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def build():
    torch.manual_seed(0)
    layers = [m for i, o in pairwise(SIZES) for m in (nn.Linear(i, o), nn.ReLU())]
    return fadiag.convert(nn.Sequential(*layers[:-1]), seed=0)


def images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3072, generator=generator), torch.randint(10, (count,), generator=generator)


def seconds(function, repeats=1):
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


def floor():
    """Return the time of a backward pass through a retained graph, and of the spectra of its errors."""
    model, batch = build(), images(SAMPLES)
    outputs, h = [], batch[0]
    for module in model:
        h = module(h)
        outputs += [h] if isinstance(module, nn.Linear) else []
    loss = functional.cross_entropy(h, batch[1])
    errors = torch.autograd.grad(loss, outputs, retain_graph=True)
    passed = seconds(lambda: torch.autograd.grad(loss, outputs, retain_graph=True), 10)
    matrices = [error.double().numpy() for error in errors]

    def spectra():
        for matrix in matrices:
            for one in (matrix, matrix - matrix.mean(0)):
                gram = one @ one.T if len(one) <= one.shape[1] else one.T @ one
                np.linalg.eigvalsh(gram)

    return passed, seconds(spectra, 10)


def draw():
    """Ratio of a draw of either null to its floor."""
    model, batch = build(), images(SAMPLES)
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)

    def reading(**draws):
        return seconds(lambda: Probe(batch, loss_of, **draws).read(model, layers))

    ratios = {"redraws": [], "gate_draws": []}
    for _ in range(5):
        passed, spectra = floor()
        for kind, found in ratios.items():
            few, many = (reading(**{kind: count}) for count in (10, 60))
            found.append((many - few) / 50 / (passed + spectra))
    print(f"a backward pass {passed * 1e3:.1f} ms, Gram and eigvalsh {spectra * 1e3:.1f} ms")
    for kind, found in ratios.items():
        print(f"{kind}: {np.median(found):.2f} x a backward pass, a Gram matrix and eigvalsh")


def run(epochs, **draws):
    """CPU time of a run with four records, on synthetic images."""
    model, (x, y) = build(), images(TRAIN)
    probe = Probe(images(SAMPLES), loss_of, mode="train", **draws)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    order = torch.Generator().manual_seed(2)
    per_epoch = TRAIN // BATCH
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        every = epochs * per_epoch // 3
        with Recorder(model, path, optimizer=optimizer, probes={"probe": probe}, every=every) as recorder:
            for _ in range(epochs):
                for batch in torch.randperm(TRAIN, generator=order)[: per_epoch * BATCH].split(BATCH):
                    optimizer.zero_grad()
                    loss_of(model, (x[batch], y[batch])).backward()
                    optimizer.step()
                    recorder.step()
    return time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    draw()
    bare, default, each = (
        run(count, **draws)
        for draws in (
            {},
            {"redraws": REDRAWS, "gate_draws": GATE_DRAWS},
            {"redraws": REDRAWS, "gate_draws": GATE_DRAWS, "null_every": 1},
        )
    )
    print(
        f"the default run: {default:.0f} s of CPU; without nulls {bare:.0f} s, "
        f"with nulls in each record {each:.0f} s"
    )
