"""Compare a training step under each rule with the same step of plain torch, in CPU time on one thread.

python tests/benchmarks/bench_rules.py

The rules alternate, so that a busy machine disturbs all of them; shown is the median of the rounds' ratios.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.rules import RULES, convert, targets

ROUNDS = 15


def digits() -> nn.Module:
    """The network of the digits demo, where what a layer costs beside its products weighs most."""
    return nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


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


def stepper(rule: str, model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Callable[[], float]:
    convert(model, rule, example=x)
    optimizer = torch.optim.SGD(model.parameters(), 0.001)

    def run() -> float:
        start = time.process_time()
        for _ in range(steps):
            with targets(model, y) if rule == "drtp" else nullcontext():
                loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (time.process_time() - start) / steps

    run()  # warm
    return run


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # What is built, its input, the steps of a round, and what a step under FA may take of plain torch's.
    cases = {
        "digits 64-128-128-128-10, batch 50": (digits, torch.randn(50, 64), 100, 1.25),
        "MLP 3072-1024-1024-10, batch 128": (mlp, torch.randn(128, 3072), 8, 1.02),
        "CNN 32-64-64, batch 32 of 3 x 32 x 32": (cnn, torch.randn(32, 3, 32, 32), 8, 1.05),
    }
    rules = [rule.name for rule in RULES if rule.trains]
    for name, (build, x, steps, limit) in cases.items():
        y = torch.randint(10, (len(x),))
        runs = {rule: stepper(rule, build(), x, y, steps) for rule in rules}
        times: dict[str, list[float]] = {rule: [] for rule in runs}
        for _ in range(ROUNDS):
            for rule, run in runs.items():
                times[rule].append(run())
        print(f"{name}: plain torch {1e3 * statistics.median(times['bp']):.2f} ms a step")
        for rule, taken in times.items():
            ratio = statistics.median(one / plain for one, plain in zip(taken, times["bp"], strict=True))
            if rule != "bp":
                print(f"  {rule:5} {ratio:.3f} of it" + (f" (to reach: {limit})" if rule == "fa" else ""))


if __name__ == "__main__":
    main()
