"""Record a Lightning run: give ``Trainer(callbacks=[...])`` the callback of ``fadiag.hosts.lightning``.

Run it: ``python hooks/lightning_callback.py --out lightning``. It needs ``pip install lightning``.
Figure: ``credit_cosine.png``, the cosine of each layer's error with the error of backpropagation.
"""

import argparse
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import fadiag
from fadiag import figures as ff
from fadiag.hosts.lightning import Record
from fadiag.training.datasets import read_digits


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        self.net = fadiag.convert(nn.Sequential(*layers), rule="fa", seed=0)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_of(self, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def loss_of(module: Digits, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(module.net(x), y)


def main(out: Path) -> None:
    lightning.seed_everything(0, verbose=False)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    probe = fadiag.Probe((x_test[:128], y_test[:128]), loss_of)
    record = Record(out / "run.zarr", probes={"probe": probe}, every=10, meta={"rule": "fa", "seed": 0})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", callbacks=[record], **quiet)
    trainer.fit(Digits(), DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True))
    results = fadiag.analyze(out / "run.zarr")
    ff.save(ff.credit_cosine(results), out / "credit_cosine.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
