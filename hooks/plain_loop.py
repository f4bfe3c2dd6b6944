"""Record a plain PyTorch loop. Only the lines marked (fadiag) are new.

Run it: ``python hooks/plain_loop.py --out plain_loop``.
Figure: ``layer_step_heatmap.png``, the effective rank of the error in all layers at all recorded steps.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag import figures as ff
from fadiag.training.datasets import read_digits


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    model.append(nn.Linear(32, 10))
    model = fadiag.convert(model, rule="fa", seed=0)  # (fadiag) the learning rule; without this line, BP
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probe = fadiag.Probe((x_test[:128], y_test[:128]), loss_of)  # (fadiag) a fixed batch, not trained on
    order = torch.Generator("cpu").manual_seed(0)
    with fadiag.Recorder(  # (fadiag)
        model, out / "run.zarr", optimizer=optimizer, probes={"probe": probe}, every=20, meta={"rule": "fa"}
    ) as recorder:
        for _ in range(4):
            for batch in torch.randperm(len(x), generator=order, device="cpu").split(64):
                loss = loss_of(model, (x[batch], y[batch]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.step(loss=loss.item())  # (fadiag)
    results = fadiag.analyze(out / "run.zarr")  # (fadiag)
    ff.save(ff.layer_step_heatmap(results), out / "layer_step_heatmap.png")  # (fadiag)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
