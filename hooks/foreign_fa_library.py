"""Record the layers of another FA library: biotorch, for which fadiag has an adapter.

Run it: ``python hooks/foreign_fa_library.py --out foreign``; then ``fadiag inspect foreign/run.zarr``.
For a library without an adapter, write one: ``Recorder(..., adapters=(fadiag.LayerAdapter(...),))``. It says
where W is, which matrix replaces W in the backward pass, and how to use another matrix for one pass.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag.training.datasets import read_digits

try:
    from biotorch.layers.frsf import Conv2d, Linear
except ImportError as error:
    # --no-deps: biotorch requires torchvision and jupyter, but its layers need neither.
    sys.exit(f"this recipe needs biotorch ({error}): pip install --no-deps biotorch==0.0.16")


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(model(x), y)


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    model = nn.Sequential(
        Conv2d(1, 8, 3, padding=1), nn.ReLU(), Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()
    )
    model.append(Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probe = fadiag.Probe((x_test[:128], y_test[:128]), loss_of)
    order = torch.Generator("cpu").manual_seed(0)
    with fadiag.Recorder(
        model, out / "run.zarr", optimizer=optimizer, probes={"probe": probe}, every=20, meta={"rule": "frsf"}
    ) as recorder:
        for _ in range(4):
            for batch in torch.randperm(len(x), generator=order, device="cpu").split(64):
                loss = loss_of(model, (x[batch], y[batch]))
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
