"""What factors cost and save on ResNet-18, for images of 32 x 32.

    python tests/benchmarks/bench_factor.py

Cost, in CPU time with one BLAS thread, in units of a training step of 128 images: a record of live factors,
and a probe's record of 256 images at width 16, each alternating with bare steps; reported is the median. The
share is that of 8 records and of the recorder's start in a training on 10,000 images for 6 epochs.
Size: bytes of a probe's raw signals, by their shapes, over the bytes of the factors, at width 64 and 512
images.

On a shared machine with 2 cores (AMD EPYC), the probe of 2 signals costs 8.4 steps a record, that of all 8
signals 14.1; the bar of 0.10 for 8 records is missed (0.14 and 0.24, and 0.12 to 0.14 for the check at the
start). The probe's passes, twice forward and backward on 256 images, take 4 of the steps alone.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag.capture import Live, Probe, Recorder
from fadiag.training import ModelConfig
from fadiag.training.models import build_model

ROUNDS, RECORDS, STEPS = 7, 8, 6 * (10_000 // 128)


def resnet18(width: int) -> nn.Module:
    config = ModelConfig(name="resnet18", width=width, norm="batch")
    return fadiag.convert(build_model(config, (3, 32, 32), 10, seed=0))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def batch_of(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10


def cpu_time(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def cost(what: str, width: int, **options: object) -> None:
    """Print the cost of a record; at every second step of the run one is due."""
    model, batch = resnet18(width), batch_of(128)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def train() -> None:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()

    train()
    with tempfile.TemporaryDirectory() as folder:
        recorders: list[Recorder] = []
        start = cpu_time(
            lambda: recorders.append(Recorder(model, Path(folder) / "run.zarr", every=2, state=(), **options))
        )
        (recorder,) = recorders

        def recorded() -> None:
            train()
            recorder.step()
            recorder._session._writer.flush()  # its thread's work belongs to this step

        times = np.array([[cpu_time(recorded) for _ in range(2)] for _ in range(ROUNDS)])[1:]
        recorder.close()
    bare = np.median(times, axis=0).min()
    record = np.median(abs(np.diff(times))) / bare
    share = RECORDS * record / STEPS
    print(
        f"{what}, width {width}: step {1e3 * bare:.0f} ms; a record costs {record:.2f} steps, "
        f"{RECORDS} of them {share:.3f} of {STEPS} steps, the start {start / bare / STEPS:.3f}"
    )


def size() -> None:
    model = resnet18(64)
    signals = ["error", "error_bp"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.zarr"
        probe = Probe(batch_of(512), loss_of, signals=signals, reduction="factor", unfolding="channels")
        taken = cpu_time(
            lambda: Recorder(model, path, probes={"probe": probe}, every=[0], state=(), check="off").close()
        )
        print(f"a record of a probe of 512 images at width 64: {taken:.0f} s")
        raw = factors = others = 0
        for node in fadiag.open_run(path)["probe"].children.values():
            for name, array in node.to_dataset(inherit=False).data_vars.items():
                if name in signals:
                    raw += 4 * array.attrs["rows"] * array.attrs["columns"]
                    factors += array[0].nbytes
                else:
                    others += array[0].nbytes
    print(f"raw {raw / 2**20:.0f} MiB; factors {factors / 2**20:.1f} MiB, {raw / factors:.0f} times smaller")
    total = factors + others
    print(f"with all that is stored with them {total / 2**20:.1f} MiB, {raw / total:.0f} times")


if __name__ == "__main__":
    torch.set_num_threads(1)
    live = Live(["activation", "error"], every=2, reduction="factor", unfolding="channels")
    cost("live factors of activation and error", 32, live=live)
    for signals in (("error", "error_bp"), fadiag.capture.PROBE_SIGNALS):
        probe = Probe(
            batch_of(256), loss_of, signals=signals, mode="train", reduction="factor", unfolding="channels"
        )
        cost(f"a probe's factors of {len(signals)} signals", 16, probes={"probe": probe})
    size()
