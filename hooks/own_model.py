"""Train a network and data of your own with fadiag's trainer: record, measure, draw.

Run it: ``python hooks/own_model.py --out own_model``.
Figure: ``rank_by_depth.pdf``, the effective rank of the error in each layer, under BP and FA.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import fadiag
from fadiag import figures as ff
from fadiag.training import make_config, train


class Spirals(Dataset[tuple[Tensor, int]]):
    """A stranger's data set: points on three spirals."""

    def __len__(self) -> int:
        return 600

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        along = torch.rand((), generator=torch.Generator().manual_seed(i))
        angle = 4 * along + 2.1 * (i % 3)
        return torch.stack([angle.cos(), angle.sin()]) * (0.2 + along), i % 3


def main(out: Path) -> None:
    stores = []
    for rule in ("bp", "fa"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
        config = make_config(
            {
                "rule": rule,
                "optimizer": {"name": "adam", "learning_rate": 0.01},
                "train": {"epochs": 20, "batch_size": 40, "checkpoint_every": 80},
                "record": {"every": 80, "probe_samples": 100, "redraws": 19, "gate_draws": 19},
            }
        )
        stores.append(train(config, out / f"{rule}.zarr", model=net, data=Spirals()))
    results = fadiag.analyze(stores)
    ff.save(ff.rank_by_depth(results), out / "rank_by_depth", formats=("pdf", "png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for stores and figure")
    main(parser.parse_args().out)
