"""The reference trainer, its configuration and data sets, and paired studies of many runs."""

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
from fadiag.training.demo import condition_configs, demo_base, demo_study
from fadiag.training.load import load_config, make_config
from fadiag.training.models import MODELS
from fadiag.training.study import Study, StudyProgress, run_study
from fadiag.training.trainer import DivergedError, Progress, train

__all__ = [
    "DATASETS",
    "MODELS",
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
    "Study",
    "StudyProgress",
    "SubsetConfig",
    "TrainConfig",
    "condition_configs",
    "demo_base",
    "demo_study",
    "load_checkpoint",
    "load_config",
    "make_config",
    "run_study",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)
