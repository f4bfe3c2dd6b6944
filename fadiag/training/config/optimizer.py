"""Define the keys of the table ``[optimizer]``: the optimizers, their layers and their rates."""

from typing import Literal

import msgspec

from fadiag.errors import ConfigError
from fadiag.training.config.bounds import Count, CountOrZero, NotNegative, Positive, Share

__all__ = ["OptimizerConfig", "RestConfig"]


class RestConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The optimizer of what "muon" and "normalized_sgd" leave: other layers, norms and biases.

    Attributes
    ----------
    name : {"adam", "adamw", "sgd"}
    learning_rate, momentum, beta2, weight_decay : float
        As in `OptimizerConfig`.

    Examples
    --------
    >>> RestConfig(name="adamw", weight_decay=0.01).learning_rate
    0.001
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Share = 0.9
    beta2: Share = 0.999
    weight_decay: NotNegative = 0.0


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The optimizer.

    Attributes
    ----------
    name : {"sgd", "normalized_sgd", "adam", "adamw", "muon"}
        "muon" and "normalized_sgd" take the weights of ``layers``, and ``rest`` everything else.
        "normalized_sgd" makes steps of Muon's size along the momentum itself.
    learning_rate : float
    momentum : float
        The first beta of Adam. `torch.optim.Muon` has 0.95 by default.
    beta2 : float
        The second beta of Adam.
    weight_decay : float
    schedule : {"cosine", "constant"}
        Cosine falls to zero at the last step. It serves the rate of ``rest`` too, as does the warm-up.
    warmup_steps : int
        The rate rises linearly over so many steps.
    clip_norm : float, optional
        The largest norm of all gradients together; larger gradients are scaled down.
    layers : {"hidden", "all_but_last", "all"}
        What "muon" and "normalized_sgd" take: the weights between the first and the last layer, all but the
        last layer's, or all. First and last are those of a forward pass.
    orthogonalization : {"bf16", "float32", "polar"}
        Muon's: five Newton-Schulz steps in either precision, or the exact polar factor. In bfloat16 rounding
        makes rank: a gradient of rank 1 gives an update of effective rank 18.
    top_k : int, optional
        Keep only the k largest singular directions. Needs "polar".
    rest : RestConfig

    Examples
    --------
    >>> OptimizerConfig(name="muon").rest.name
    'adam'
    """

    name: Literal["sgd", "normalized_sgd", "adam", "adamw", "muon"] = "sgd"
    learning_rate: Positive = 0.05
    momentum: Share = 0.9
    beta2: Share = 0.999
    weight_decay: NotNegative = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: CountOrZero = 0
    clip_norm: Positive | None = None
    layers: Literal["hidden", "all_but_last", "all"] = "all_but_last"
    orthogonalization: Literal["bf16", "float32", "polar"] = "bf16"
    top_k: Count | None = None
    rest: RestConfig = RestConfig()

    def __post_init__(self) -> None:
        if self.top_k is not None and self.orthogonalization != "polar":
            raise ConfigError("top_k needs orthogonalization 'polar', which finds single directions")
