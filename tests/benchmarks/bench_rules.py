"""A training step under Feedback Alignment against the same step of plain torch, in CPU time on one thread.

python tests/benchmarks/bench_rules.py

The two alternate, so that a busy machine disturbs both; the ratio is of the medians.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.rules import convert

ROUNDS, STEPS = 15, 8


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 64, 10),
    )


def stepper(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.SGD(model.parameters(), 0.001)

    def run() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.process_time() - start) / STEPS

    run()  # warm
    return run


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = {
        "MLP 3072-1024-1024-10, batch 128": (mlp, torch.randn(128, 3072)),
        "CNN 32-64-64, batch 32 of 3 x 32 x 32": (cnn, torch.randn(32, 3, 32, 32)),
    }
    for name, (build, x) in cases.items():
        y = torch.randint(10, (len(x),))
        runs = {"bp": stepper(build(), x, y)}
        runs |= {rule: stepper(convert(build(), rule=rule), x, y) for rule in ("fa", "usf", "frsf", "brsf")}
        times: dict[str, list[float]] = {rule: [] for rule in runs}
        for _ in range(ROUNDS):
            for rule, run in runs.items():
                times[rule].append(run())
        medians = {rule: statistics.median(taken) for rule, taken in times.items()}
        print(f"{name}: plain torch {1e3 * medians['bp']:.2f} ms a step")
        for rule, median in medians.items():
            if rule != "bp":
                print(f"  {rule:5} {median / medians['bp']:.3f} of plain torch")


if __name__ == "__main__":
    main()
