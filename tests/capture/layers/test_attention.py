"""Test a pre-norm attention block of Linear modules: 3-D signals, and a gate only in the MLP."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fadiag.capture import DEFAULT_ADAPTERS, Probe
from fadiag.capture.layers.selection import choose_layers
from fadiag.rules import convert


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        h = self.norm1(x)
        attended = functional.scaled_dot_product_attention(self.query(h), self.key(h), self.value(h))
        x = x + self.project(attended)
        x = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return self.head(x.mean(1))


def test_an_attention_block_is_read_layer_by_layer():
    torch.manual_seed(0)
    model = convert(Block().double())
    x, y = torch.randn(5, 4, 8, dtype=torch.float64), torch.randint(3, (5,))
    probe = Probe((x, y), lambda m, b: functional.cross_entropy(m(b[0]), b[1]), redraws=2, gate_draws=2)
    read = {layer.name: layer for layer in probe.read(model, choose_layers(model, DEFAULT_ADAPTERS, None))}
    assert list(read) == ["query", "key", "value", "project", "up", "down", "head"]
    assert {name: layer.attrs["gate"] for name, layer in read.items() if layer.attrs["gate"]} == {
        "up": "gelu"
    }
    # norm2 stands behind the sum: it is not the norm of the layer that was added.
    assert not any(layer.attrs["norm"] for layer in read.values())
    for layer in read.values():
        for signal in ("error", "error_bp", "modulator", "gradient"):
            assert layer.signals[signal].array.any()
        assert np.isfinite(layer.signals["error_null_spectrum_raw"].array).all()
    assert read["up"].signals["error"].dims == ("sample", "position", "out")
    assert read["up"].signals["gate_null_spectrum_raw"].array.shape == (2, 5)
    project = read["project"].signals
    np.testing.assert_array_equal(project["modulator"].array, project["error"].array)
