"""Record FA layers of your own: a `LayerAdapter` says where W and B are, and how to use another matrix.

Run it: ``python hooks/adapter.py --out adapter``. ``docs/adapters.md`` shows seven styles of adapters.
Figure: ``credit_cosine.png``, the cosine of each layer's error with the error of backpropagation.
"""

import argparse
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

import fadiag
from fadiag import figures as ff
from fadiag.training.datasets import read_digits


class OwnFA(nn.Linear):  # your layer, which fadiag does not know
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("B", torch.randn(outputs, inputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        sent = linear(x, self.B)  # its value is not used, but its gradient goes to x
        return linear(x.detach(), self.weight, self.bias) + sent - sent.detach()


@contextmanager
def using(module: OwnFA, matrix: Tensor):
    own, module.B = module.B, matrix
    try:
        yield
    finally:
        module.B = own


def main(out: Path) -> None:
    adapter = fadiag.LayerAdapter((OwnFA,), lambda m: m.weight, lambda m: m.B, "layerwise", using)
    torch.manual_seed(0)
    x, y, x_test, y_test = read_digits().tensors(torch.device("cpu"))
    model = nn.Sequential(nn.Flatten(), OwnFA(64, 32), nn.ReLU(), OwnFA(32, 32), nn.ReLU(), OwnFA(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probe = fadiag.Probe((x_test[:128], y_test[:128]), lambda m, b: cross_entropy(m(b[0]), b[1]), redraws=9)
    options = {"optimizer": optimizer, "probes": {"probe": probe}, "every": 20, "meta": {"rule": "own FA"}}
    with fadiag.Recorder(model, out / "run.zarr", adapters=(adapter,), **options) as recorder:
        for batch in torch.randint(len(x), (100, 64)):
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            recorder.step()
    ff.save(ff.credit_cosine(fadiag.analyze(out / "run.zarr")), out / "credit_cosine.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="a folder for store and figure")
    main(parser.parse_args().out)
