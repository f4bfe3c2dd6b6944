"""Record the layers of another FA library: biotorch, for which fadiag has an adapter.

Run it: ``python hooks/foreign_fa_library.py --out foreign``. For a library without one, see ``adapter.py``.
Figure: ``credit_cosine.png``, the cosine of each layer's error with the error of backpropagation.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import fadiag
from fadiag import figures as ff
from fadiag.training.datasets import read_digits

try:
    from biotorch.layers.frsf import Conv2d, Linear
except ImportError as error:
    # --no-deps: biotorch requires torchvision and jupyter, but its layers need neither.
    sys.exit(f"this recipe needs biotorch ({error}): pip install --no-deps biotorch==0.0.16")


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def main(out: Path) -> None:
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    layers = (Conv2d(1, 8, 3, padding=1), nn.ReLU(), Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
    model = nn.Sequential(*layers, nn.Flatten(), Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probes = {"probe": fadiag.Probe((x_test[:128], y_test[:128]), loss_of, redraws=9)}
    options = {"optimizer": optimizer, "probes": probes, "every": 20, "meta": {"rule": "frsf"}}
    with fadiag.Recorder(model, out / "run.zarr", **options) as recorder:
        for _ in range(84):
            batch = torch.randint(len(x), (64,))
            loss = loss_of(model, (x[batch], y[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss.item())
    results = fadiag.analyze(out / "run.zarr")
    ff.save(ff.credit_cosine(results), out / "credit_cosine.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
