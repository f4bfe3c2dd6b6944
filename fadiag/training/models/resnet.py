"""Build residual networks for images of 32 x 32."""

from functools import partial

from torch import Tensor, nn

from fadiag.training.models.blocks import Blocks

__all__ = ["resnet", "resnet18", "resnet20"]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut; the shortcut is a 1 x 1 convolution where shapes differ."""

    def __init__(self, blocks: Blocks, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = blocks.conv(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = blocks.norm(outputs, images=True)
        self.gate1 = blocks.gate()
        self.conv2 = blocks.conv(outputs, outputs, 3, padding=1)
        self.norm2 = blocks.norm(outputs, images=True)
        self.gate2 = blocks.gate()
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                blocks.conv(inputs, outputs, 1, stride=stride), blocks.norm(outputs, images=True)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate1(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h)) + self.shortcut(x)
        return self.gate2(h)  # type: ignore[no-any-return]


def resnet(
    blocks: Blocks, shape: tuple[int, ...], classes: int, *, stages: int, depth: int, width: int
) -> nn.Sequential:
    """Build a residual network: a 3 x 3 convolution, stages of twice the width and half the size, the output.

    Parameters
    ----------
    blocks : Blocks
    shape : tuple of int
        Channels, height and width of the images.
    classes : int
    stages, depth : int
        The number of stages, and of blocks in each.
    width : int
        The channels of the first stage, where the configuration names none.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, arXiv 1512.03385. Here ResNet-20 too has convolutions on the shortcuts to
    other shapes (its option B), and ResNet-18 starts without its stride and pool, for images of 32 x 32.
    """
    width = blocks.config.width or width
    model = nn.Sequential()
    model.add_module("conv", blocks.conv(shape[0], width, 3, padding=1))
    model.add_module("norm", blocks.norm(width, images=True))
    model.add_module("gate", blocks.gate())
    inputs = width
    for stage in range(stages):
        units = width * 2**stage
        for number in range(depth):
            stride = 2 if stage and not number else 1
            model.add_module(f"block{stage + 1}_{number + 1}", BasicBlock(blocks, inputs, units, stride))
            inputs = units
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("out", blocks.output(inputs, classes))
    return model


resnet18 = partial(resnet, stages=4, depth=2, width=64)
resnet20 = partial(resnet, stages=3, depth=3, width=16)
