"""Define the keys of the table ``[train]``: epochs, batches and the loss."""

from typing import Literal

import msgspec

from fadiag.errors import ConfigError
from fadiag.training.config.bounds import Count

__all__ = ["TrainConfig"]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The training.

    Attributes
    ----------
    epochs : int
    batch_size : int
        The samples of an update. The last incomplete batch of an epoch is left out.
    accumulate : int
        The number of equal parts into which each batch is split, to save memory.
    amp : {"none", "bf16", "fp16"}
        Automatic mixed precision; "fp16" with a loss scale.
    loss : {"cross_entropy", "mse"}
        "mse" is the mean, over samples and classes, of the squared distance to the one-hot target.
    checkpoint_every : int, optional
        Steps between two checkpoints; none by default.

    Examples
    --------
    >>> TrainConfig(batch_size=128).epochs
    30
    """

    epochs: Count = 30
    batch_size: Count = 50
    accumulate: Count = 1
    amp: Literal["none", "bf16", "fp16"] = "none"
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    checkpoint_every: Count | None = None

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size {self.batch_size} has no {self.accumulate} equal parts (accumulate)"
            )
