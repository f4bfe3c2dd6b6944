"""Build a ResNet-18 of any width for images of CIFAR-10's size."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, taken, given, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(taken, given, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(given, given, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(given), nn.BatchNorm2d(given)
        self.shortcut = nn.Sequential()
        if stride > 1 or taken != given:
            self.shortcut = nn.Sequential(
                nn.Conv2d(taken, given, 1, stride, bias=False), nn.BatchNorm2d(given)
            )

    def forward(self, x):
        h = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(h)) + self.shortcut(x), inplace=True)


def resnet18(width=8, classes=3):
    """ResNet-18 with the stem for small images, from seed 0."""
    torch.manual_seed(0)
    widths = [width * 2 ** (i // 2) for i in range(8)]
    blocks = [Block(([width, *widths])[i], widths[i], 2 if i in (2, 4, 6) else 1) for i in range(8)]
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes),
    )  # fmt: skip
