"""The reference trainer, its configuration and data sets, and paired studies of many runs."""

from fadiag.training.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RecordConfig,
    SeedConfig,
)
from fadiag.training.demo import condition_configs, demo_base, demo_study
from fadiag.training.load import load_config, make_config
from fadiag.training.study import Study, StudyProgress, run_study
from fadiag.training.trainer import DivergedError, Progress, train

__all__ = [
    "Config",
    "DataConfig",
    "DivergedError",
    "ModelConfig",
    "OptimizerConfig",
    "Progress",
    "RecordConfig",
    "SeedConfig",
    "Study",
    "StudyProgress",
    "condition_configs",
    "demo_base",
    "demo_study",
    "load_config",
    "make_config",
    "run_study",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)
