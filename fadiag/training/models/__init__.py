"""Build the networks of the reference trainer; each has its own file."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.config import ModelConfig
from fadiag.training.models.blocks import Blocks
from fadiag.training.models.lenet import lenet
from fadiag.training.models.mlp import mlp
from fadiag.training.models.resnet import resnet18, resnet20
from fadiag.training.models.vgg import vgg

__all__ = ["MODELS", "build_model"]

#: The networks by their names in a configuration. Each takes the blocks, the shape of an input, the classes.
MODELS: Mapping[str, Callable[[Blocks, tuple[int, ...], int], nn.Module]] = MappingProxyType(
    {"mlp": mlp, "lenet": lenet, "vgg": vgg, "resnet18": resnet18, "resnet20": resnet20}
)


def build_model(config: ModelConfig, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build the network that a configuration names, on the CPU, with first weights from the seed.

    Parameters
    ----------
    config : ModelConfig
    shape : tuple of int
        An input's: channels, height and width of an image.
    classes : int
    seed : int

    Raises
    ------
    ConfigError
        The network is unknown, does not take such inputs, or has no use for a key that is given.

    Examples
    --------
    >>> build_model(ModelConfig(hidden=(3,)), (1, 2, 2), 2, seed=0).fc1
    Linear(in_features=4, out_features=3, bias=True)
    """
    if config.name not in MODELS:
        raise ConfigError(f"model.name is {config.name!r}; there are {', '.join(MODELS)}")
    if config.name == "mlp" and config.width is not None:
        raise ConfigError("model.width is for convolutional networks; an mlp has model.hidden")
    if config.name == "lenet" and config.width is not None:
        raise ConfigError("model.width is given, and 'lenet' has the widths of its paper; leave it out")
    if config.name != "mlp" and config.hidden is not None:
        raise ConfigError(f"model.hidden is for an mlp; {config.name!r} has no use for it")
    if config.name != "mlp" and len(shape) != 3:
        raise ConfigError(
            f"model.name {config.name!r} takes images (channels, height, width); an input has shape {shape}"
        )
    return MODELS[config.name](Blocks(config, seed), shape, classes)
