"""Test live signals of a model whose path changes between the steps."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fadiag.capture import Live, Recorder
from fadiag.rules import convert
from fadiag.store import layer_key, open_run

BATCHES = (12, 7, 12, 12, 5, 12)


class Path(nn.Module):
    """A model that keeps z and h of each call of its layers, for the comparison."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.turn, self.kept = 0, {}

    def keep(self, name, z, h):
        z.retain_grad()
        self.kept[name] = z, h
        return h

    def gated(self, name, layer, x):
        z = layer(x)
        return self.keep(name, z, torch.relu(z))

    def head(self, h):
        out = self.last(h)
        return self.keep("last", out, out)

    def forward(self, x):
        raise NotImplementedError


class Branches(Path):
    """The turn decides by which operations the gate is reached, the values whether a layer is called."""

    def forward(self, x):
        z = self.first(x)
        if self.turn % 2:
            h = self.keep("first", z, torch.relu(z))
        else:  # the same gate by another way
            h = self.keep("first", z, functional.relu(z.reshape(-1, 5)).clone())
        if x.mean() > 0:
            h = h + self.gated("second", self.second, h)
        return self.head(h)


class Dropout(Path):
    def forward(self, x):
        h = functional.dropout(self.gated("first", self.first, x), 0.5)
        return self.head(functional.dropout(self.gated("second", self.second, h), 0.5))


class Repeated(Path):
    """A layer is called once, twice or three times."""

    def forward(self, x):
        h = self.gated("first", self.first, x)
        for i in range(1 + self.turn % 3):
            h = self.gated(f"second@{i}" if i else "second", self.second, h)
        return self.head(h)


class Checkpointed(Path):
    """A block runs again in the backward pass of every second step."""

    def block(self, h):
        z = self.second(h)
        return z, torch.relu(z)

    def forward(self, x):
        h = self.gated("first", self.first, x)
        z, h = checkpoint(self.block, h, use_reentrant=False) if self.turn % 2 else self.block(h)
        return self.head(self.keep("second", z, h))


class Returned(Path):
    """The input of a gate is returned too, so the layer's output is read as it is."""

    def forward(self, x):
        z = self.first(x)
        h = self.keep("first", z, z)
        return self.head(self.gated("second", self.second, torch.relu(h))), z


@pytest.mark.parametrize("kind", [Branches, Dropout, Repeated, Checkpointed, Returned])
def test_a_path_that_changes_between_steps_is_recorded_right_at_each(kind, tmp_path):
    torch.manual_seed(0)
    model = convert(kind())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    live = Live(["activation", "error"], every=1)
    truth = []
    with Recorder(model, tmp_path / "run.zarr", every=[0], state=(), live=live) as recorder:
        for rows in BATCHES:
            model.kept.clear()
            optimizer.zero_grad()
            out = model(torch.randn(rows, 6))
            parts = out if isinstance(out, tuple) else (out,)
            sum(part.square().mean() for part in parts).backward()
            truth.append({name: (h.detach().clone(), z.grad) for name, (z, h) in model.kept.items()})
            optimizer.step()
            recorder.step()
            model.turn += 1
    run = open_run(tmp_path / "run.zarr")["live"]
    assert run["rows_valid"].values.tolist() == list(BATCHES)
    for name in set().union(*truth):
        for step, rows in enumerate(BATCHES):
            for signal, at in (("activation", 0), ("error", 1)):
                found = run[f"{layer_key(name)}/{signal}"].values[step]
                if name in truth[step]:
                    np.testing.assert_array_equal(found[:rows], truth[step][name][at].numpy())
                    assert np.isnan(found[rows:]).all()
                else:
                    assert np.isnan(found).all()
