"""Build LeNet-5."""

from collections import OrderedDict

from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.models.blocks import Blocks

__all__ = ["lenet"]


def lenet(blocks: Blocks, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Build LeNet-5: two convolutions of 5 x 5 with average pools, and linear layers of 120 and 84 units.

    Images of 28 x 28 are padded to 32 x 32.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proc.
    IEEE 86, 1998. There the pools have weights, and the output layer is another.

    Raises
    ------
    ConfigError
        The images are smaller than 28 x 28.
    """
    channels, height, width = shape
    if min(height, width) < 28:
        raise ConfigError(f"model.name 'lenet' takes images of 28 x 28 or larger, not {height} x {width}")
    padding = 2 if min(height, width) < 32 else 0
    flat = 16
    for size in (height, width):
        flat *= ((size + 2 * padding - 4) // 2 - 4) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=blocks.conv(channels, 6, 5, padding=padding),
            norm1=blocks.norm(6, images=True),
            gate1=blocks.gate(),
            pool1=nn.AvgPool2d(2),
            conv2=blocks.conv(6, 16, 5),
            norm2=blocks.norm(16, images=True),
            gate2=blocks.gate(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc3=blocks.linear(flat, 120),
            norm3=blocks.norm(120),
            gate3=blocks.gate(),
            fc4=blocks.linear(120, 84),
            norm4=blocks.norm(84),
            gate4=blocks.gate(),
            out=blocks.output(84, classes),
        )
    )
