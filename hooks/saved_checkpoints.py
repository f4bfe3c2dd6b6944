"""Measure the saved checkpoints of a finished training: load each one, and say how many updates came before.

Run it: ``python hooks/saved_checkpoints.py --out checkpoints``.
Without an optimizer, only probes, weights and biases are recorded: no gradients, momenta or updates.
Figure: ``alignment_over_training.png``, the cosine of the output layer's W with B.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag import figures as ff
from fadiag.training.datasets import read_digits


def build() -> nn.Sequential:
    layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return fadiag.convert(nn.Sequential(*layers), rule="fa", seed=0)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def main(out: Path) -> None:
    out.mkdir(parents=True)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    torch.manual_seed(0)  # from here on your own training, which saves STEP.pt after every 20 updates
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(201):
        if step % 20 == 0:
            torch.save(model.state_dict(), out / f"{step}.pt")
        batch = torch.randint(len(x), (32,))
        optimizer.zero_grad()
        loss_of(model, (x[batch], y[batch])).backward()
        optimizer.step()
    # fadiag: the recorder stores W_0 and B when it is built, so load the first checkpoint before.
    checkpoints = {int(path.stem): path for path in out.glob("*.pt")}
    model = build()
    model.load_state_dict(torch.load(checkpoints[0]))
    probes = {"probe": fadiag.Probe((x_test[:128], y_test[:128]), loss_of)}
    # every=(): record only the steps that are given below.
    with fadiag.Recorder(model, out / "run.zarr", probes=probes, every=(), meta={"rule": "fa"}) as recorder:
        for step in sorted(checkpoints):
            model.load_state_dict(torch.load(checkpoints[step]))
            recorder.step(step=step)
    results = fadiag.analyze(out / "run.zarr")
    ff.save(ff.alignment_over_training(results), out / "alignment_over_training.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for checkpoints, store and figure")
    main(parser.parse_args().out)
