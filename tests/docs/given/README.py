"""What the README takes for granted: a model, its optimizer, loss and data."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import fadiag

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x_test, y_test = torch.randn(16, 6), torch.randint(3, (16,))
loader = [(torch.randn(16, 6), torch.randint(3, (16,))) for _ in range(60)]


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def train_step(model, batch, optimizer):
    optimizer.zero_grad()
    loss(model, batch).backward()
    optimizer.step()
