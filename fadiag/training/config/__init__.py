"""Define the configuration of a training run: one module for each table of the TOML file."""

from fadiag.training.config.data import DataConfig
from fadiag.training.config.feedback import FeedbackConfig
from fadiag.training.config.model import ModelConfig
from fadiag.training.config.optimizer import OptimizerConfig, RestConfig
from fadiag.training.config.record import LiveConfig, LogConfig, RecordConfig, SubsetConfig
from fadiag.training.config.run import Config, SeedConfig
from fadiag.training.config.train import TrainConfig

__all__ = [
    "Config",
    "DataConfig",
    "FeedbackConfig",
    "LiveConfig",
    "LogConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RecordConfig",
    "RestConfig",
    "SeedConfig",
    "SubsetConfig",
    "TrainConfig",
]
