"""Time the store: starting and opening with many arrays (a recorder too), writing, commit, reading.

    python tests/benchmarks/bench_store.py

Prints CPU time and ratios to a baseline. Both are taken in turn in the same run, with a warm page cache.
Nothing is asserted.
"""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from fadiag import Probe, Recorder, convert
from fadiag.capture.checks.probe_checks import CheckMode
from fadiag.store import ArraySpec, RunWriter, open_run

REPEATS = 5


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds (of all threads) that a call takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def starting(folder: Path, layers: int, signals: int) -> None:
    """Time a start with many arrays: to the first committed record, and opening; both are to be linear.

    The baseline makes the same folders and files. ext4 takes several times as long to make files for half a
    minute after many were deleted, so nothing is deleted here.
    """
    path, plain = folder / f"start{layers}.zarr", folder / f"start{layers}.plain"
    names = [(f"layer.{layer}", f"x{signal}") for layer in range(layers) for signal in range(signals)]
    writer = None

    def start() -> None:
        nonlocal writer
        writer = RunWriter(path, manifest={})
        writer.declare_stream("s", attrs={})
        for layer, signal in names:
            writer.declare("s", layer, signal, ArraySpec(("sample", "out"), (4, 3), "float32"))
        writer.append("s", 0, dict.fromkeys(names, np.zeros((4, 3), np.float32)))
        writer.flush()

    def make_files() -> None:
        for layer, signal in names:
            place = plain / layer / signal
            place.mkdir(parents=True)
            for name in ("zarr.json", "c.0.0.0"):
                (place / name).write_bytes(bytes(500))

    started, files = cpu(start), cpu(make_files)
    assert writer is not None
    closed = cpu(writer.close)
    opened = [cpu(lambda: open_run(path)) for _ in range(3)]
    print(
        f"{layers} layers x {signals} signals, CPU s: start and first record {started:.2f} (its files alone"
        f" {files:.2f}), close {closed:.2f}, opening {median(opened):.2f}"
    )


def recording(folder: Path, layers: int, check: CheckMode) -> None:
    """Time a recorder of many small layers: it is to be linear, but for the check of error_bp.

    The check moves 7 layers at a time, so it takes about 1.4 forward passes for each layer.
    """

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(layers - 1))
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = x + torch.relu(block(x)) / layers
            return self.head(x)

    batch = torch.randn(16, 6), torch.randint(3, (16,))
    model = convert(Deep(), rule="fa", seed=0)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    path = folder / f"recorder{layers}{check}.zarr"
    recorder = None

    def start() -> None:
        nonlocal recorder
        probe = Probe(batch, loss_of)
        recorder = Recorder(model, path, optimizer=optimizer, probes={"p": probe}, every=1, check=check)

    def step() -> None:
        assert recorder is not None
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        recorder.step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some verdicts of so deep a model are inconclusive
        started, first, second = cpu(start), cpu(step), cpu(step)
    assert recorder is not None
    closed = cpu(recorder.close)
    opened = min(cpu(lambda: open_run(path)) for _ in range(3))
    print(
        f"recorder of {layers} layers, check={check!r}, CPU s: start {started:.2f}, first step {first:.2f},"
        f" second {second:.2f}, close {closed:.2f}, opening {opened:.2f}",
        flush=True,
    )


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def write_store(path: Path, arrays: list[np.ndarray], steps: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with RunWriter(path, manifest={}) as writer:
        writer.declare_stream("s", attrs={})
        for index, array in enumerate(arrays):
            writer.declare("s", f"l{index}", "x", ArraySpec(("sample", "out"), array.shape, "float32"))
        for step in range(steps):
            # The same arrays again and again: what they cost to fill is the training's.
            writer.append("s", step, {(f"l{index}", "x"): array for index, array in enumerate(arrays)})


def write_plain(path: Path, arrays: list[np.ndarray], steps: int) -> None:
    """Append each record to an open file per array: no metadata, no commit."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    files = [os.open(path / f"l{index}", os.O_WRONLY | os.O_CREAT) for index in range(len(arrays))]
    for _ in range(steps):
        for file, array in zip(files, arrays, strict=True):
            os.write(file, array.reshape(-1).view(np.uint8).data)
    for file in files:
        os.close(file)


def writing(folder: Path) -> None:
    arrays = [np.random.default_rng(i).standard_normal((128, 781)).astype(np.float32) for i in range(8)]
    size, steps = sum(array.nbytes for array in arrays), 150
    store, plain = [], []
    for _ in range(REPEATS + 1):
        store.append(cpu(lambda: write_store(folder / "w.zarr", arrays, steps)))
        plain.append(cpu(lambda: write_plain(folder / "w.plain", arrays, steps)))
    ours, theirs = (size * steps / 1e9 / median(times[1:]) for times in (store, plain))
    print(
        f"writing {size / 1e6:.1f} MB a step in 8 arrays: {ours:.2f} GB per CPU second,"
        f" plain append {theirs:.2f}; ratio {ours / theirs:.2f}"
    )


def committing(folder: Path, layers: int, signals: int, steps: int) -> None:
    path = folder / "c.zarr"
    shutil.rmtree(path, ignore_errors=True)
    with RunWriter(path, manifest={}, commit_every=1e9) as writer:
        writer.declare_stream("s", attrs={})
        for layer in range(layers):
            for signal in range(signals):
                writer.declare("s", f"layer.{layer}", f"x{signal}", ArraySpec((), (), "float32"))
        writer.append("s", 0, {})
        writer.flush()
        recording = writer._recording  # the commit alone is what is timed
        times = []
        for rows in np.linspace(1, steps, 20).astype(int):
            recording.streams["s"].records = int(rows)
            times.append(min(cpu(recording.commit) for _ in range(10)))
        recording.streams["s"].records = 1
    print(
        f"commit of {layers} layers x {signals} signals: {1e3 * median(times):.2f} ms CPU;"
        f" last/first over {steps} steps {median(times[-5:]) / median(times[:5]):.2f}"
    )


def many(folder: Path, layers: int, steps: int) -> None:
    path = folder / "m.zarr"
    row = np.zeros(10, np.float32)
    shutil.rmtree(path, ignore_errors=True)
    marks = []

    def write() -> None:
        with RunWriter(path, manifest={}) as writer:
            writer.declare_stream("s", attrs={})
            for layer in range(layers):
                writer.declare("s", f"layer.{layer}", "x", ArraySpec(("out",), (10,), "float32"))
            for step in range(steps):
                writer.append("s", step, {(f"layer.{layer}", "x"): row for layer in range(layers)})
                if step in {steps // 2 - 1, steps - 1}:
                    writer.flush()
                    marks.append(time.process_time())

    start = time.process_time()
    total = cpu(write)
    halves = (marks[1] - marks[0]) / (marks[0] - start)
    files = sum(len(names) for _, _, names in os.walk(path))
    opened = min(cpu(lambda: open_run(path)) for _ in range(3))
    print(
        f"{layers} arrays x {steps} steps of 40 bytes: {total:.1f} s CPU,"
        f" second half / first half {halves:.2f};"
        f" {files} files; opening {opened:.2f} s CPU"
    )


def reading(folder: Path) -> None:
    arrays = [np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)]
    path = folder / "r.zarr"
    write_store(path, arrays, 256)
    files = sorted((path / "s/l0/x").glob("c.*"), key=lambda p: int(p.name.split(".")[1]))

    error = open_run(path)["s/l0/x"]

    def ours() -> None:
        for start in range(0, 256, 4):
            _ = error[start : start + 4].values

    def theirs() -> None:
        for file in files:
            np.fromfile(file, np.float32)

    pairs = [(cpu(ours), cpu(theirs)) for _ in range(REPEATS + 1)][1:]
    one, two = (median(times) for times in zip(*pairs, strict=True))
    print(
        f"reading 256 MiB by whole chunks: {one:.3f} s CPU, numpy.fromfile {two:.3f}; ratio {two / one:.2f}"
    )


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-store-"))
    try:
        for layers in (250, 500, 1000, 2000):
            starting(folder, layers, 5)
        for layers in (100, 400, 800, 2000):
            recording(folder, layers, "off")
        for layers in (50, 100, 200):
            recording(folder, layers, "raise")
        writing(folder)
        committing(folder, 8, 1, 10_000)
        committing(folder, 1000, 1, 10_000)
        reading(folder)
        many(folder, 1000, 200)
        many(folder, 1000, 1000)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
