"""Record a ResNet-18 by factors: small matrices with the same spectra as the errors of its convolutions.

Run it: ``python hooks/convnet.py --out convnet``. The network is narrow, so that a CPU trains it in seconds.
Figure: ``rank_by_depth.png``, the effective rank of the error in each layer, under BP and FA.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag import figures as ff
from fadiag.training import ModelConfig
from fadiag.training.datasets import read_digits
from fadiag.training.models import build_model


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def record(rule: str, store: Path) -> Path:
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    model = build_model(ModelConfig(name="resnet18", width=8, norm="batch"), (1, 8, 8), 10, seed=0)
    model = fadiag.convert(model, rule=rule, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    probe = fadiag.Probe(
        (x_test[:128], y_test[:128]),
        loss_of,
        mode="train",
        signals=["error", "error_bp"],
        reduction="factor",  # a few hundred rows a layer, whatever the number of samples and positions
        unfolding="channels",  # the rows are samples and positions, the columns are channels
    )
    options = {"optimizer": optimizer, "probes": {"probe": probe}, "every": 10, "state": ()}
    torch.manual_seed(0)
    with fadiag.Recorder(model, store, **options, meta={"rule": rule, "seed": 0}) as recorder:
        for _ in range(30):
            batch = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            loss_of(model, (x[batch], y[batch])).backward()
            optimizer.step()
            recorder.step()
    return store


def main(out: Path) -> None:
    stores = [record(rule, out / f"{rule}.zarr") for rule in ("bp", "fa")]
    results = fadiag.analyze(stores, unfolding="channels")
    ff.save(ff.rank_by_depth(results), out / "rank_by_depth.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for stores and figure")
    main(parser.parse_args().out)
