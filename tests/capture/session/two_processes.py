"""Run one of the two processes of test_distributed.py: `python two_processes.py RANK FOLDER`."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fadiag.capture import Live, Probe, Recorder
from fadiag.capture.session import distributed as session
from fadiag.errors import FadiagError
from fadiag.rules import convert

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(3, (40,), generator=torch.Generator().manual_seed(1))
SHARES = (slice(0, 9), slice(9, 18)), (slice(0, 9), slice(9, 16)), (slice(0, 6), slice(6, 15))


def loss_of(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 4), nn.ReLU()
    return convert(nn.Sequential(*layers, nn.Linear(4, 3)).double(), seed=seed)


def probe(mode="eval"):
    return Probe((X[20:], Y[20:]), loss_of, mode=mode, redraws=2, gate_draws=2)


def train(rank, path, **options):
    """Five updates under DDP; return everything that they left behind."""
    model = network()
    torch.manual_seed(10 + rank)
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    recorder = None
    if path is not None:
        recorder = Recorder(wrapped, path, optimizer=optimizer, probes={"probe": probe("train")}, **options)
    for step in range(5):
        rows = SHARES[step % 3][rank]
        optimizer.zero_grad()
        loss = loss_of(wrapped, (X[rows], Y[rows]))
        loss.backward()
        optimizer.step()
        if recorder is not None:
            recorder.step(loss=loss.item())
    if recorder is not None:
        recorder.close()
        assert recorder.current_step == 5
    left = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]
    return [tensor.tolist() for tensor in left]


def told(build):
    try:
        build().close()
    except FadiagError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {"plain": train(rank, None)}
    found["first"] = train(rank, folder / "first.zarr", every=2, live=Live(every=1), processes="first")

    differing = network(seed=rank)
    DistributedDataParallel(differing, broadcast_buffers=False)
    found["other B"] = told(lambda: Recorder(differing, folder / "other.zarr"))
    sent = network(seed=rank)
    DistributedDataParallel(sent)
    found["sent B"] = told(lambda: Recorder(sent, folder / "sent.zarr"))
    other_layers = network() if rank == 0 else nn.Sequential(network())
    found["other layers"] = told(lambda: Recorder(other_layers, folder / "layers.zarr"))
    found["taken"] = told(lambda: Recorder(network(), folder / "first.zarr"))
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    for mode in ("train", "eval"):
        found[f"sync {mode}"] = told(
            lambda mode=mode: Recorder(synchronized, folder / "sync.zarr", probes={"probe": probe(mode)})
        )
    trained = network()
    left = dict(zip(trained.state_dict(), found["first"], strict=False))
    trained.load_state_dict({name: torch.tensor(w, dtype=torch.float64) for name, w in left.items()})
    with Recorder(trained, folder / "first.zarr", probes={"probe": probe("train")}, state=(),
                  if_exists="resume") as recorder:  # fmt: skip
        found["resumed at"] = recorder.current_step
    distributed.barrier()
    session.TIMEOUT = timedelta(seconds=2)
    if rank == 0:
        found["alone"] = told(lambda: Recorder(network(), folder / "alone.zarr"))
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    os._exit(0)  # gloo's threads may wait for the group that was never made


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
