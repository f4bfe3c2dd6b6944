"""Build a convolutional network in the style of VGG."""

from collections import OrderedDict

from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.models.blocks import Blocks

__all__ = ["vgg"]


def vgg(blocks: Blocks, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Build six convolutions of 3 x 3 in three stages, each with twice the width and a max-pool at its end.

    After K. Simonyan, A. Zisserman, arXiv 1409.1556, with one linear layer, the output.

    Raises
    ------
    ConfigError
        The images are smaller than 8 x 8.
    """
    channels, height, width = shape
    if min(height, width) < 8:
        raise ConfigError(f"model.name 'vgg' takes images of 8 x 8 or larger, not {height} x {width}")
    first = blocks.config.width or 32
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, 7):
        stage = (number - 1) // 2
        units = first * 2**stage
        modules[f"conv{number}"] = blocks.conv(channels, units, 3, padding=1)
        modules[f"norm{number}"] = blocks.norm(units, images=True)
        modules[f"gate{number}"] = blocks.gate()
        if number % 2 == 0:
            modules[f"pool{stage + 1}"] = nn.MaxPool2d(2)
        channels = units
    modules["flatten"] = nn.Flatten()
    modules["out"] = blocks.output(channels * (height // 8) * (width // 8), classes)
    return nn.Sequential(modules)
