"""Choose the layers of the matrix optimizers by the order of a forward pass."""

from collections.abc import Mapping

from torch import nn

from fadiag.errors import ConfigError
from fadiag.rules.computed_weights import parametrization_of, trained_tensors
from fadiag.training.config import OptimizerConfig

__all__ = ["matrix_layers"]

_MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def matrix_layers(config: OptimizerConfig, layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the layers whose weights "muon" or "normalized_sgd" takes.

    Left out are convolutions with groups, whose kernels are several matrices, and layers whose weight is
    frozen, computed, as with weight norm, or shared with a layer that is not taken.

    Parameters
    ----------
    config : OptimizerConfig
    layers : mapping of str to nn.Module
        All layers with weight matrices, in the order of a forward pass.

    Raises
    ------
    ConfigError
        No layer is left.

    Examples
    --------
    >>> layers = {name: nn.Linear(2, 2) for name in ("a", "b", "c", "d")}
    >>> list(matrix_layers(OptimizerConfig(name="muon", layers="hidden"), layers))
    ['b', 'c']
    """
    names = list(layers)
    chosen = {"all": names, "all_but_last": names[:-1], "hidden": names[1:-1]}[config.layers]
    others = {
        id(tensor)
        for name, module in layers.items()
        if name not in chosen
        for tensor in trained_tensors(module).values()
    }
    taken = {
        name: layers[name]
        for name in chosen
        if isinstance(layers[name], _MATRICES)
        and getattr(layers[name], "groups", 1) == 1
        and not parametrization_of(layers[name])
        and layers[name].weight.requires_grad
        and id(layers[name].weight) not in others
    }
    if not taken:
        raise ConfigError(
            f"optimizer.name is {config.name!r} with layers {config.layers!r}, which takes none of the "
            f"layers {', '.join(names) or '(none)'}; take another optimizer.layers, or 'sgd'"
        )
    return taken
