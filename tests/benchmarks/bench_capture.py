"""What recording costs: CPU time (all threads of the process, the writer's too) over a bare step.

    python tests/benchmarks/bench_capture.py [steps]

One BLAS thread. Bare and recorded blocks of steps alternate on one model. The figure is the median of the
ratios of neighbors.

On a shared machine with 2 cores (AMD EPYC), bare step 36 ms, live activations and errors (3.1 MB a step).
The first three rows are the main thread's CPU time, the others the whole process's. They were measured by
leaving stages out, which this script does not do; between runs they differ by about 0.01.

    ===========================================  ===========
    stage, recorded at every step                over bare
    ===========================================  ===========
    copies alone, by plain hooks                 + 0.015
    the same under an empty TorchFunctionMode    + 0.024
    trace                                        + 0.042
    trace, read and end the step                 + 0.043
    the same, checked and queued for the writer  + 0.057
    the same, written                            + 0.091
    nothing is scheduled                         + 0.004
    ===========================================  ===========
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import importlib.util
import resource
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
from fadiag.capture import DEFAULT_ADAPTERS, Live, Probe, Recorder
from fadiag.capture.layers.selection import choose_layers

BLOCK = 10


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def build():
    sizes = (3072, 1024, 1024, 1024, 10)
    layers = [m for i, o in pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
    return fadiag.convert(nn.Sequential(*layers[:-1]))


def peer(steps):
    """Ratio of a step under delve, which sums up covariances of activations and sees no error."""
    if importlib.util.find_spec("delve") is None:
        print("delve is not installed (pip install --no-deps delve==0.1.50 tensorboardX): left out")
        return
    from delve import SaturationTracker

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batch = torch.randn(128, 3072), torch.randint(10, (128,))
    folder = tempfile.mkdtemp()  # it makes one even where it saves nothing
    tracker = SaturationTracker(
        folder, save_to="csv", modules=model, device="cpu", nosave=True, writer_args={}
    )

    def block():
        start = time.process_time()
        for _ in range(BLOCK):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
        return time.process_time() - start

    ratios = []
    for _ in range(steps // BLOCK):
        tracker.stop()
        bare = block()
        tracker.resume()
        ratios.append(block() / bare)
    print(f"delve, activations only: {np.median(ratios[1:]):.3f} x the bare step")


def live(steps):
    """Ratios of a step of which activations and errors are recorded: every one, every 10th, none.

    Each round has a store of its own, deleted after it: a virtual machine fetches memory that its host took
    back at 8 us a page, so that a page cache that only grows costs ten times what it costs on metal.
    """
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batch = torch.randn(128, 3072), torch.randint(10, (128,))
    armed = [False]

    def block(recorder, every):
        """Return the CPU time of a block of steps, the first and then each ``every``-th of them armed."""
        if recorder is not None:
            armed[0] = every > 0
            recorder.step()  # arms the first
        start = time.process_time()
        for i in range(BLOCK):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
            if recorder is not None:
                armed[0] = every > 0 and i + 1 < BLOCK and (i + 1) % every == 0
                recorder.step()
        if recorder is not None:
            recorder._session._writer.flush()  # its thread's work belongs to these steps
        return time.process_time() - start

    ratios: dict[str, list[float]] = {"every step": [], "every 10th step": [], "no step": []}
    recorded, resident, bares = 0, 0, []
    for _ in range(steps // BLOCK):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.zarr"
            heard = Live(["activation", "error"], every=lambda step: armed[0])
            with Recorder(model, path, every=[0], state=(), live=heard) as recorder:
                block(recorder, 1)  # makes the arrays
                bares.append(block(None, 0))
                resident = resident or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                for kind, every in zip(ratios, (1, BLOCK, 0), strict=True):
                    ratios[kind].append(block(recorder, every) / bares[-1])
            recorded += len(fadiag.open_run(path)["live"]["step"])
    for kind, found in ratios.items():
        print(f"live, {kind}: {np.median(found[1:]):.3f} x the bare step")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    print(f"live, memory above bare: {grown / 1024:.0f} MiB (the bound is 128 MB of buffers)")
    print(f"({recorded} steps recorded, bare step {np.median(bares) / BLOCK * 1e3:.1f} ms)")


def gpu(steps, device="cuda"):
    """Ratio of a step on a CUDA device with live activations and errors, by the clock on the wall."""
    if not torch.cuda.is_available():
        print("no CUDA device: its figure is left out")
        return
    model = build().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batch = torch.randn(128, 3072, device=device), torch.randint(10, (128,), device=device)

    def block(every, recorder, on):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for i in range(BLOCK):
            # Never armed behind the last step: the bare block comes next.
            on[0] = recorder is not None and i % every == 0 and i + 1 < BLOCK
            if recorder is not None:
                recorder.step()
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
        on[0] = False
        if recorder is not None:
            recorder.step()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    for every in (1, BLOCK):
        ratios, on = [], [False]
        with tempfile.TemporaryDirectory() as folder:
            live = Live(["activation", "error"], every=lambda step, on=on: on[0])
            with Recorder(model, Path(folder) / "run.zarr", every=[0], state=(), live=live) as recorder:
                for _ in range(steps // BLOCK):
                    bare = block(every, None, on)
                    ratios.append(block(every, recorder, on) / bare)
        name = torch.cuda.get_device_name()
        print(f"live every {every}. step on {name}: {np.median(ratios[1:]):.3f} x the bare step")


def probe(repeats):
    """Ratio of a reading (both backward passes, all signals) to a forward and two backward passes."""
    model = build()
    batch = torch.randn(512, 3072), torch.randint(10, (512,))
    reading = Probe(batch, loss_of)
    layers = choose_layers(model, DEFAULT_ADAPTERS, None)
    weights = [layer.weight for layer in layers]
    ratios = []
    for _ in range(repeats):
        start = time.process_time()
        loss = loss_of(model, batch)
        torch.autograd.grad(loss, weights, retain_graph=True)
        torch.autograd.grad(loss, weights)
        middle = time.process_time()
        reading.read(model, layers)
        ratios.append((time.process_time() - middle) / (middle - start))
    print(f"probe of 512 samples: {np.median(ratios):.2f} x a forward and two backward passes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    probe(max(3, count // 8))
    live(count)
    peer(count)
    gpu(count)
