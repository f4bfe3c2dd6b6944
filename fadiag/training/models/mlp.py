"""Build the multilayer perceptron."""

from collections import OrderedDict

from torch import nn

from fadiag.training.models.blocks import Blocks

__all__ = ["mlp"]


def mlp(blocks: Blocks, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Build the perceptron: for each hidden width a linear layer, its norm and its gate; then the output.

    Examples
    --------
    >>> from fadiag.training import ModelConfig
    >>> model = mlp(Blocks(ModelConfig(hidden=(8,), norm="batch"), seed=0), (1, 2, 2), 2)
    >>> [name for name, _ in model.named_children()]
    ['flatten', 'fc1', 'norm1', 'gate1', 'out']
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = 1
    for size in shape:
        width *= size
    for number, units in enumerate(blocks.config.hidden or (128, 128, 128), start=1):
        modules[f"fc{number}"] = blocks.linear(width, units)
        if blocks.config.norm != "none":
            modules[f"norm{number}"] = blocks.norm(units)
        modules[f"gate{number}"] = blocks.gate()
        width = units
    modules["out"] = blocks.output(width, classes)
    return nn.Sequential(modules)
