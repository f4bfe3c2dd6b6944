"""Define `Config`, the configuration of a training run, and the table of its seeds."""

import msgspec

from fadiag.errors import ConfigError
from fadiag.training.config.bounds import Count, Seed
from fadiag.training.config.data import DataConfig
from fadiag.training.config.feedback import FeedbackConfig
from fadiag.training.config.model import ModelConfig
from fadiag.training.config.optimizer import OptimizerConfig
from fadiag.training.config.record import RecordConfig
from fadiag.training.config.train import TrainConfig

__all__ = ["Config", "SeedConfig"]

#: What a condition's name says of the optimizer and of the norm; SGD and no norm go without saying.
_SHORT = {"sgd": None, "none": None, "batch": "bn", "layer": "ln", "group": "gn"}


class SeedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Three seeds for three sources of chance, so that each can be varied alone.

    Examples
    --------
    >>> SeedConfig(feedback=3).init
    0
    """

    init: Seed = 0
    data: Seed = 0
    feedback: Seed = 0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training run.

    Attributes
    ----------
    condition : str, optional
        Its name in figures; made of rule, optimizer and norm by default.
    rule : str
        A rule that `fadiag.convert` knows. Under "frozen" only the last layer learns: the control that any
        rule has to beat.
    error_rank : int, optional
        The rank to which the rule "rank_limited" limits the errors; only this rule has it.
    feedback, data, model, optimizer, train, seeds, record
        The tables of the file.

    Examples
    --------
    >>> Config(rule="bp", train=TrainConfig(epochs=5)).label
    'bp'
    """

    condition: str | None = None
    rule: str = "fa"
    error_rank: Count | None = None
    feedback: FeedbackConfig = FeedbackConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    seeds: SeedConfig = SeedConfig()
    record: RecordConfig = RecordConfig()

    def __post_init__(self) -> None:
        if (self.error_rank is None) == (self.rule == "rank_limited"):
            missing = "is missing" if self.error_rank is None else "is given"
            raise ConfigError(
                f"error_rank {missing}, and rule is {self.rule!r}; 'rank_limited' needs it, alone"
            )
        if self.rule == "drtp" and self.train.amp == "fp16":
            raise ConfigError(
                "rule 'drtp' sends targets, which the loss scale of amp 'fp16' does not reach; take 'bf16'"
            )

    @property
    def label(self) -> str:
        """The condition's name.

        Examples
        --------
        >>> Config(rule="fa", optimizer=OptimizerConfig(name="muon"), model=ModelConfig(norm="batch")).label
        'fa+muon+bn'
        """
        if self.condition is not None:
            return self.condition
        kinds = (_SHORT.get(kind, kind) for kind in (self.optimizer.name, self.model.norm))
        return "+".join([self.rule, *filter(None, kinds)])
