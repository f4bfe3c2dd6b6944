"""What factors cost and save on a network of ResNet-18's shape, for images of 32 x 32.

    python tests/benchmarks/bench_factor.py [blocks]

Cost: CPU time of ten steps of which one is recorded over that of ten bare ones, in turn on one model of width
32 with one BLAS thread; told is the median of the ratios. Size: bytes of a probe's raw signals, by their
shapes, over the bytes of the factors, at width 64 and N = 512.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import fadiag
from fadiag.capture import Live, Probe, Recorder

EVERY = 10


class Block(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.shortcut = nn.Conv2d(inner, outer, 1, stride, bias=False) if inner != outer else nn.Identity()

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(width):
    sizes = [(width, width, 1), (width, width, 1)]
    for i in range(3):
        sizes += [(width << i, width << (i + 1), 2), (width << (i + 1), width << (i + 1), 1)]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10)]
    return nn.Sequential(*stem, *(Block(*size) for size in sizes), *head)


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def batch_of(n):
    return torch.randn(n, 3, 32, 32), torch.randint(10, (n,))


def cost(blocks):
    model = fadiag.convert(resnet18(32))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batch = batch_of(128)

    def train():
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()

    armed, ratios, bare = [False], [], []
    with tempfile.TemporaryDirectory() as folder:
        heard = Live(
            ["activation", "error"], every=lambda step: armed[0], reduction="factor", unfolding="channels"
        )
        recorder = Recorder(model, Path(folder) / "run.zarr", every=[0], state=(), live=heard)
        for _ in range(blocks):
            start = time.process_time()
            for _ in range(EVERY):
                train()
            bare.append(time.process_time() - start)
            start = time.process_time()
            for i in range(EVERY):
                armed[0] = i == 0
                recorder.step()
                train()
            armed[0] = False
            recorder.step()
            recorder._writer.flush()
            ratios.append((time.process_time() - start) / bare[-1])
        recorder.close()
    ratios = ratios[1:]  # the first makes the store's files
    print(f"live factors of every tenth step: {np.median(ratios):.3f} x the bare step", np.round(ratios, 3))
    print(
        f"bare step {np.median(bare) / EVERY * 1e3:.0f} ms; a recorded step adds "
        f"{(np.median(ratios) - 1) * EVERY:.2f} of it"
    )


def size():
    model = fadiag.convert(resnet18(64))
    signals = ["error", "error_bp"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        probe = Probe(batch_of(512), loss_of, signals=signals, reduction="factor", unfolding="channels")
        start = time.process_time()
        Recorder(model, path, probes={"probe": probe}, every=[0], state=()).close()
        print(f"probe of 512 samples: {time.process_time() - start:.0f} s")
        raw = factors = beside = 0
        for node in fadiag.open_run(path)["probe"].children.values():
            for name, array in node.to_dataset(inherit=False).data_vars.items():
                if name in signals:
                    raw += 4 * array.attrs["rows"] * array.attrs["columns"]
                    factors += array[0].nbytes
                else:
                    beside += array[0].nbytes
    print(f"raw {raw / 2**20:.0f} MiB; factors {factors / 2**20:.1f} MiB, {raw / factors:.0f} times smaller;")
    total = factors + beside
    print(f"with all that stands beside {total / 2**20:.1f} MiB, {raw / total:.0f} times")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cost(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    size()
