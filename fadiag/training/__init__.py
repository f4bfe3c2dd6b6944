"""The reference trainer, its configuration and data sets."""

from fadiag.training.checkpoint import Checkpoint, load_checkpoint
from fadiag.training.config import (
    Config,
    DataConfig,
    FeedbackConfig,
    LiveConfig,
    LogConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    RestConfig,
    SeedConfig,
    SubsetConfig,
    TrainConfig,
)
from fadiag.training.datasets import DATASETS
from fadiag.training.load import load_config, make_config
from fadiag.training.models import MODELS
from fadiag.training.trainer import TRAINER_VERSION, DivergedError, Progress, train

__all__ = [
    "DATASETS",
    "MODELS",
    "TRAINER_VERSION",
    "Checkpoint",
    "Config",
    "DataConfig",
    "DivergedError",
    "FeedbackConfig",
    "LiveConfig",
    "LogConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Progress",
    "RecordConfig",
    "RestConfig",
    "SeedConfig",
    "SubsetConfig",
    "TrainConfig",
    "load_checkpoint",
    "load_config",
    "make_config",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)
