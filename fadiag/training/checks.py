"""Check before a run writes anything that device, network, data and numbers fit together."""

from collections.abc import Mapping

import torch
from torch import nn

from fadiag.errors import ConfigError
from fadiag.training.config import Config
from fadiag.training.samples import RunData

__all__ = ["check_batch_norm", "check_counts", "check_layers", "pick_device"]


def check_counts(config: Config, data: RunData) -> None:
    """Check that there are enough samples for a batch and for the probe."""
    if config.train.batch_size > len(data.train):
        raise ConfigError(
            f"train.batch_size is {config.train.batch_size:,}, but there are only {len(data.train):,} "
            "training samples"
        )
    if config.record.probe_samples > len(data.held_out):
        raise ConfigError(
            f"record.probe_samples is {config.record.probe_samples:,}, "
            f"but there are only {len(data.held_out):,} {data.held_out_name} samples"
        )


def check_layers(layers: Mapping[str, nn.Module], model: nn.Module) -> None:
    """Refuse a network without layers, in which nothing is first or last."""
    if not layers:
        raise ConfigError(
            f"no layer with a weight matrix is called in the forward pass of {type(model).__name__}; build "
            "it of modules such as nn.Linear"
        )


def check_batch_norm(config: Config, model: nn.Module) -> None:
    """Refuse batches of one sample with batch norm, which has no variance then."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return
    if config.train.batch_size == config.train.accumulate:
        raise ConfigError(
            f"train.batch_size is {config.train.batch_size} in {config.train.accumulate} part(s), and batch "
            "norm finds no variance in one sample; take larger parts, or model.norm 'layer'"
        )
    if config.record.probe_samples == 1 and config.record.probe_mode == "train":
        raise ConfigError(
            "record.probe_samples is 1, and batch norm finds no variance in one sample; take more, or "
            "record.probe_mode 'eval'"
        )


def pick_device(name: str) -> torch.device:
    """Return the device with a name; "auto" is CUDA if torch sees a CUDA device, else the CPU.

    Raises
    ------
    ConfigError
        The name is unknown, or it is "cuda" and torch sees no CUDA device.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"unknown device {name!r}; it is 'auto', 'cpu' or 'cuda'")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; take 'auto' or 'cpu'")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
