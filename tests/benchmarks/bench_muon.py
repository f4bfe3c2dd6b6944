"""Muon's training step against SGD's on ResNet-18 of width 16, in CPU time on one thread.

python tests/benchmarks/bench_muon.py

Whole steps of batches of 128 images: forward, backward, update. The optimizers alternate, so that a busy
machine disturbs all; the ratio is of the medians. The bar is 1.3 for Newton-Schulz in either precision.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from msgspec.structs import replace
from torch.nn.functional import cross_entropy

from fadiag.training import Config, ModelConfig, OptimizerConfig
from fadiag.training.layer_order import layers_in_order
from fadiag.training.models import build_model
from fadiag.training.optimizers import build_optimizers

ROUNDS, BATCH, BAR = 7, 128, 1.3
BASE = Config(model=ModelConfig(name="resnet18", width=16, norm="batch"))
MUON = OptimizerConfig(name="muon", learning_rate=0.02)
CASES = {
    "sgd": OptimizerConfig(learning_rate=0.02),
    "normalized_sgd": replace(MUON, name="normalized_sgd"),
    "muon bf16": MUON,
    "muon float32": replace(MUON, orthogonalization="float32"),
    "muon polar": replace(MUON, orthogonalization="polar"),
}


def stepper(config: OptimizerConfig) -> Callable[[], float]:
    shape = (3, 32, 32)
    model = build_model(BASE.model, shape, 10, seed=0)
    x = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(BATCH) % 10
    optimizers, _ = build_optimizers(replace(BASE, optimizer=config), model, layers_in_order(model, x[:2]))

    def run() -> float:
        start = time.process_time()
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        return time.process_time() - start

    run()  # warm
    return run


def main() -> None:
    torch.set_num_threads(1)
    runs = {name: stepper(config) for name, config in CASES.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(run())
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    print(f"ResNet-18, width 16, batch {BATCH}: SGD {1e3 * medians['sgd']:.0f} ms a step")
    ratios = {name: median / medians["sgd"] for name, median in medians.items()}
    for name, ratio in ratios.items():
        print(f"  {name:15} {ratio:.3f} of SGD")
    if max(ratios["muon bf16"], ratios["muon float32"]) > BAR:
        sys.exit(f"Muon's step is over {BAR} of SGD's")


if __name__ == "__main__":
    main()
