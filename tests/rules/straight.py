"""The oracle of the rules: feedback by autograd alone, without an autograd function."""

import copy

import torch
from torch import Tensor, nn


class Straight(nn.Module):
    """A layer with its own value and weight gradient, and the input gradient that ``feedback`` gives.

    The value comes from the detached input, the gradient from a pass with ``feedback`` whose value cancels.
    """

    def __init__(self, layer: nn.Module, feedback: Tensor) -> None:
        super().__init__()
        self.layer = layer
        through = copy.deepcopy(layer).requires_grad_(False)
        through.weight.copy_(feedback)
        self.through = [through]  # in a list, so that its weights are no parameters of the oracle

    def forward(self, x: Tensor) -> Tensor:
        z = self.through[0](x)
        return self.layer(x.detach()) + (z - z.detach())


def plain(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Return a copy of a converted layer as torch's own ``kind``."""
    copied = copy.deepcopy(layer)
    copied._buffers.clear()
    copied._parameters.pop("feedback", None)
    copied.__class__ = kind
    return copied


@torch.no_grad()
def difference(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the largest difference of two sets of gradients."""
    assert got.keys() == expected.keys()
    return max(float((got[name] - expected[name]).abs().max()) for name in expected)
