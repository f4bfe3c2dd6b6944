"""Define the keys of the table ``[model]``: the network and its first weights."""

from typing import Annotated, Literal

import msgspec

from fadiag.training.config.bounds import Count, Positive

__all__ = ["ModelConfig"]


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The network.

    Attributes
    ----------
    name : str
        A name in `fadiag.training.MODELS`, or "given" for what ``train(model=...)`` gets. The keys below are
        for the built-in ones.
    hidden : list of int, optional
        The widths of an MLP's hidden layers; 128, 128, 128 by default.
    width : int, optional
        The channels of a convolutional network's first stage; later stages have multiples of it. By default
        16 (ResNet-20), 32 (VGG) or 64 (ResNet-18).
    norm : {"none", "batch", "layer", "group"}
        The normalization between each hidden layer and its gate. For images, "layer" takes all channels and
        positions of a sample together.
    groups : int
        The number of groups of group normalization.
    gate : {"relu", "tanh", "gelu", "linear"}
        The activation function.
    init : {"kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal", "torch"}
        The law of the first weights, with the gate's gain: square root of 2 for ReLU and GELU, 5/3 for tanh,
        1 for linear. Biases are zero. "torch" has torch's own law, biases too, and no gain.
    weight_scale : float
        A factor on all weights, and so on the feedback, unless ``feedback.scale`` is set.
    output_gain : float
        The gain of the output layer, in place of the gate's.

    Examples
    --------
    >>> ModelConfig(hidden=(64, 64)).norm
    'none'
    """

    name: str = "mlp"
    hidden: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)] | None = None
    width: Count | None = None
    norm: Literal["none", "batch", "layer", "group"] = "none"
    groups: Count = 4
    gate: Literal["relu", "tanh", "gelu", "linear"] = "relu"
    init: Literal["kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal", "torch"] = (
        "kaiming_normal"
    )
    weight_scale: Positive = 1.0
    output_gain: Positive = 1.0
