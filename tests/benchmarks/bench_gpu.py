"""What recording costs on a GPU: ResNet-18's step, with and without a recorder, and the peak memory.

    python tests/benchmarks/bench_gpu.py [--out tests/benchmarks/gpu.md]

On a machine without a GPU it runs at a tiny size on the CPU, so that it is tried; such figures mean nothing.
Bare and recorded blocks of steps alternate on one model; told is the median of the ratios of neighbors. A
GPU's time is that between two events on its stream, with the time that it waits for Python.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

import fadiag
from fadiag.capture import Live, Probe, Recorder
from tests.capture.resnet import resnet18

MIB = 2**20


@dataclass(frozen=True)
class Size:
    """How large the network, its batches and the blocks of steps are."""

    width: int
    batch: int
    side: int
    block: int
    rounds: int


REAL = Size(width=64, batch=128, side=32, block=10, rounds=12)
TINY = Size(width=2, batch=4, side=8, block=2, rounds=1)


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


class Bench:
    """A network in training, and what its steps cost."""

    def __init__(self, device: torch.device, size: Size) -> None:
        self.device, self.size = device, size
        self.model = fadiag.convert(resnet18(size.width, classes=10)).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        shape = size.batch, 3, size.side, size.side
        self.batch = torch.randn(shape, device=device), torch.randint(10, (size.batch,), device=device)

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def measure(self, work: Callable[[], None]) -> tuple[float, float]:
        """Return the milliseconds that some work takes, and the MiB in use at its peak (NaN on the CPU)."""
        if not self.is_gpu:
            begun = time.process_time()
            work()
            return 1e3 * (time.process_time() - begun), float("nan")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        return begun.elapsed_time(ended), torch.cuda.max_memory_allocated() / MIB

    def steps(self, after: Callable[[int], None] = lambda done: None) -> None:
        """Make a block of steps, and tell ``after`` how many are done."""
        for i in range(self.size.block):
            self.optimizer.zero_grad()
            loss_of(self.model, self.batch).backward()
            self.optimizer.step()
            after(i + 1)

    def live(self, every: int) -> list[str]:
        """Compare steps with live activations and errors, a part of them recorded, with bare ones."""
        ratios, peaks, bares, is_on = [], [], [], [True]
        live = Live(["activation", "error"], every=lambda step: is_on[0], reduction="factor")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.zarr"
            with Recorder(self.model, path, every=[0], state=(), live=live) as recorder:

                def after(done: int) -> None:
                    # The last step takes the hooks off, so that the next block is bare.
                    is_on[0] = done < self.size.block and done % every == 0
                    recorder.step()

                self.steps(after)  # makes the arrays, and is no part of what is told
                for _ in range(self.size.rounds):
                    bares.append(self.measure(self.steps))
                    is_on[0] = True
                    recorder.step()
                    milliseconds, peak = self.measure(lambda: self.steps(after))
                    ratios.append(milliseconds / bares[-1][0])
                    peaks.append(peak)
        bare = np.median(bares, axis=0)
        step = f"{bare[0] / self.size.block:.2f}"
        return [
            f"live, every {every}. step",
            f"{np.median(ratios):.2f}",
            step,
            memory(bare[1], np.median(peaks)),
        ]

    def probe(self, **drawn) -> tuple[str, str, str, str]:
        """Compare a reading of a probe of the batch with a bare step."""
        with tempfile.TemporaryDirectory() as folder:
            probes = {"probe": Probe(self.batch, loss_of, reduction="factor", **drawn)}
            path, options = Path(folder) / "run.zarr", {"every": 1, "state": (), "check": "off"}
            readings, bares = [], []
            with Recorder(self.model, path, probes=probes, **options) as recorder:
                for _ in range(max(2, self.size.rounds // 4)):
                    bares.append(self.measure(self.steps))
                    readings.append(self.measure(recorder.step))
        bare, reading = np.median(bares, axis=0), np.median(readings, axis=0)
        step = bare[0] / self.size.block
        words = "a probe's record" + "".join(f", {name}={x}" for name, x in drawn.items())
        return words, f"{reading[0] / step:.1f}", f"{step:.2f}", memory(bare[1], reading[1])


def memory(bare: float, recorded: float) -> str:
    return "not measured" if np.isnan(recorded) else f"{recorded:.0f} MiB (bare {bare:.0f})"


def report(device: torch.device, size: Size) -> str:
    bench = Bench(device, size)
    for _ in range(2):
        bench.steps()  # cuDNN chooses its algorithms
    card = torch.cuda.get_device_name() if bench.is_gpu else "CPU, at a size that means nothing"
    rows = [bench.live(1), bench.live(10), bench.probe(), bench.probe(redraws=9, null_every=1)]
    return "\n".join(
        [
            f"# ResNet-18 on {card}",
            "",
            f"Width {size.width}, batch {size.batch} x 3 x {size.side} x {size.side}, Feedback Alignment, "
            f"float32, torch {torch.__version__}. Written by `bench_gpu.py`.",
            "",
            "| recorded | time over a bare step | bare step (ms) | peak memory |",
            "|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    has_gpu = torch.cuda.is_available()
    told = report(torch.device("cuda" if has_gpu else "cpu"), REAL if has_gpu else TINY)
    print(told)
    if out is not None:
        out.write_text(told)
