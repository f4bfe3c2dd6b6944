"""Record the checkpoints of a finished run: load each one, and say how many updates came before it.

Run it: ``python hooks/checkpoints.py --out checkpoints``; then ``fadiag inspect checkpoints/run.zarr``.
Without an optimizer, only probes, weights and biases are recorded: no gradients, momenta or updates.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag.training.datasets import read_digits


def build() -> nn.Sequential:
    layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return fadiag.convert(nn.Sequential(*layers), rule="fa", seed=0)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def train(folder: Path) -> None:
    """Train, and save a checkpoint NUMBER.pt after every 10 updates, in place of your own run."""
    torch.manual_seed(0)
    x, y, _, _ = read_digits().tensors(torch.device("cpu"))
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    order = torch.Generator("cpu").manual_seed(0)
    torch.save(model.state_dict(), folder / "0.pt")
    for step, batch in enumerate(torch.randperm(len(x), generator=order, device="cpu").split(32), start=1):
        optimizer.zero_grad()
        loss_of(model, (x[batch], y[batch])).backward()
        optimizer.step()
        if step % 10 == 0:
            torch.save(model.state_dict(), folder / f"{step}.pt")


def record(folder: Path, store: Path) -> None:
    _, _, x, y = read_digits().tensors(torch.device("cpu"))
    probe = fadiag.Probe((x[:128], y[:128]), loss_of)
    checkpoints = {int(path.stem): path for path in folder.glob("*.pt")}
    model = build()
    # The recorder stores the initial weights and B when it is built, so load the first checkpoint first.
    model.load_state_dict(torch.load(checkpoints[min(checkpoints)]))
    # every=(): record only the steps that are given below.
    with fadiag.Recorder(model, store, probes={"probe": probe}, every=(), meta={"rule": "fa"}) as recorder:
        for step in sorted(checkpoints):
            model.load_state_dict(torch.load(checkpoints[step]))
            recorder.step(step=step)


def main(out: Path) -> None:
    folder = out / "saved"
    folder.mkdir(parents=True)
    train(folder)
    record(folder, out / "run.zarr")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for the checkpoints and the store")
    main(parser.parse_args().out)
