"""A model with a layer of one's own, a batch and a loss."""

import torch
from torch import nn

import fadiag


class MyLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class MyTransposed(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


torch.manual_seed(0)
x, y = torch.randn(32, 1, 8, 8), torch.randint(3, (32,))
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), MyLinear(144, 8), nn.ReLU(), MyTransposed(8, 3)
)
