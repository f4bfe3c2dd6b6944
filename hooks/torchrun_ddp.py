"""Record a DistributedDataParallel run: every rank builds the recorder, and rank 0 writes.

Run it: ``torchrun --nproc-per-node 2 hooks/torchrun_ddp.py --out ddp``; then ``fadiag inspect ddp/run.zarr``.
Live signals come from rank 0's share of each batch. Without torchrun, one process runs alone.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import fadiag
from fadiag.training.datasets import read_digits


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def main(out: Path) -> None:
    alone = "RANK" not in os.environ  # not started by torchrun
    distributed.init_process_group(
        "gloo", **({"store": distributed.HashStore(), "rank": 0, "world_size": 1} if alone else {})
    )
    try:
        train(out)
        # A gloo thread frees the last collective's tensors after the collective has returned. It aborts the
        # process if Python is already ending (torch 2.13), so wait here.
        distributed.monitored_barrier()
    finally:
        distributed.destroy_process_group()


def train(out: Path) -> None:
    rank, size = distributed.get_rank(), distributed.get_world_size()
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    torch.manual_seed(0)  # every rank needs the same W, and thus the same scale of B
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    model.append(nn.Linear(32, 10))
    model = DistributedDataParallel(fadiag.convert(model, rule="fa", seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probe = fadiag.Probe((x_test[:128], y_test[:128]), loss_of)
    with fadiag.Recorder(
        model,
        out / "run.zarr",
        optimizer=optimizer,
        probes={"probe": probe},
        live=fadiag.Live(every=20),
        every=20,
        meta={"rule": "fa", "seed": 0},
    ) as recorder:
        order, whole = torch.Generator("cpu").manual_seed(1), len(x) // (64 * size) * (64 * size)
        for _ in range(4):
            # Every rank draws the same order and takes a different share of each batch.
            for batch in torch.randperm(whole, generator=order, device="cpu").split(64 * size):
                mine = batch[rank::size]
                loss = loss_of(model, (x[mine], y[mine]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.step(loss=loss.item())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for the store")
    main(parser.parse_args().out)
