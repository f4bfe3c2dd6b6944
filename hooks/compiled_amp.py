"""Record a model that ``torch.compile`` compiles and that trains under autocast.

Run it: ``python hooks/compiled_amp.py --out compiled_amp``. The first compilation takes half a minute.
The probe runs the module that was compiled, uncompiled. The loss function opens autocast, so the probe's
passes have the same precision. On a GPU with float16, give ``Recorder(..., scaler=scaler)`` too.
Figure: ``update_chain.png``, the effective rank from the gradient to the update.
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
    with torch.autocast("cpu", torch.bfloat16):
        return cross_entropy(model(x), y)


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    model = torch.compile(fadiag.convert(nn.Sequential(*layers), rule="fa", seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    probes = {"probe": fadiag.Probe((x_test[:128], y_test[:128]), loss_of)}
    options = {"optimizer": optimizer, "probes": probes, "every": 20, "meta": {"rule": "fa", "seed": 0}}
    with fadiag.Recorder(model, out / "run.zarr", **options) as recorder:
        for _ in range(100):
            batch = torch.randint(len(x), (64,))
            loss = loss_of(model, (x[batch], y[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss.item())
    results = fadiag.analyze(out / "run.zarr")
    ff.save(ff.update_chain(results), out / "update_chain.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
