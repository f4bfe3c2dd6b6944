"""Record a DistributedDataParallel run: every rank builds the recorder, and rank 0 writes.

Run it: ``torchrun --nproc-per-node 2 hooks/torchrun_ddp.py --out ddp``.
Figure: ``rank_over_training.png``, the effective rank of rank 0's share of the batch's error.
"""

import argparse
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import fadiag
from fadiag import figures as ff
from fadiag.training.datasets import read_digits


def main(out: Path) -> None:
    rank, size = distributed.get_rank(), distributed.get_world_size()
    x, y, _, _ = read_digits().tensors(torch.device("cpu"))
    torch.manual_seed(0)  # every rank needs the same W, and thus the same scale of B
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    model = DistributedDataParallel(fadiag.convert(model.append(nn.Linear(32, 10)), rule="fa", seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    live, meta = fadiag.Live(every=10), {"rule": "fa", "seed": 0}
    with fadiag.Recorder(model, out / "run.zarr", optimizer=optimizer, live=live, meta=meta) as recorder:
        order, whole = torch.Generator("cpu").manual_seed(1), len(x) // (64 * size) * (64 * size)
        for _ in range(8):
            # Every rank draws the same order and takes a different share of each batch.
            for batch in torch.randperm(whole, generator=order, device="cpu").split(64 * size):
                mine = batch[rank::size]
                loss = cross_entropy(model(x[mine]), y[mine])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.step(loss=loss.item())
    if rank == 0:
        results = fadiag.analyze(out / "run.zarr")
        ff.save(ff.rank_over_training(results, layer="1"), out / "rank_over_training.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    distributed.init_process_group("gloo")
    try:
        main(parser.parse_args().out)
        # A gloo thread frees the last collective's tensors after the collective has returned. It aborts the
        # process if Python is already ending (torch 2.13), so wait here.
        distributed.monitored_barrier()
    finally:
        distributed.destroy_process_group()
