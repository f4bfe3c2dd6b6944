"""Run one of the two processes of test_data_parallel.py: `python two_processes.py RANK FOLDER`."""

import hashlib
import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fadiag.rules import RULES, convert
from tests.rules.straight import learning

X = torch.randn(8, 2, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(8) % 3
CASES = {rule.name: {} for rule in RULES if rule.trains} | {"rank_limited": {"rank": 2}}


def network(rule: str) -> nn.Module:
    """Return a network that does not depend on the process; in eval mode, where brSF draws nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(100, 5), nn.Tanh())
    model.append(nn.Linear(5, 3)).double()
    return convert(model, rule, seed=3, example=X, **CASES[rule]).eval()


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Make three updates, and return the model."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        with learning(model, y):
            cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def digest(model: nn.Module) -> str:
    """Return the SHA-256 of everything that a model holds, and of every B."""
    held = [
        *model.state_dict().values(),
        *(m.feedback.detach() for m in model.modules() if hasattr(m, "feedback")),
    ]
    return hashlib.sha256(b"".join(tensor.contiguous().numpy().tobytes() for tensor in held)).hexdigest()


def main() -> None:
    """Train every rule on this process's half of the batch."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), 2)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    half = slice(4 * rank, 4 * rank + 4)
    found = {}
    for rule in CASES:
        model = network(rule)
        before = digest(model)
        train(DistributedDataParallel(model), X[half], Y[half])
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
        found[rule] = {"before": before, "after": digest(model), "weights": weights}
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
