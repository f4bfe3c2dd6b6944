"""Translate a configuration into the recorder's arguments and the run's metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from fadiag.capture import PROBE_SIGNALS, Live, Probe, Subset, logarithmic
from fadiag.training.config import Config, LiveConfig, LogConfig, SubsetConfig
from fadiag.training.loss import Loss
from fadiag.training.samples import RunData

__all__ = ["LOGGED", "meta_of", "recorder_options"]

#: What the trainer logs: the loss at each step, the accuracies after each epoch.
LOGGED = ("loss", "train_accuracy", "test_accuracy", "validation_accuracy")


def recorder_options(
    config: Config, data: RunData, loss: Loss, fa_feedback: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return the recorder's arguments that follow from the configuration and the data.

    ``loss`` is that of the probe, and ``fa_feedback`` has the matrices for ``record.error_fa``, by layer.
    """
    record = config.record
    probe = Probe(
        data.held_out.take(torch.arange(record.probe_samples, device="cpu")),
        loss,
        mode=record.probe_mode,
        redraws=record.redraws,
        gate_draws=record.gate_draws,
        null_every=_when(record.null_every),
        check_every=_when(record.check_every),
        jacobian_vectors=record.jacobian_vectors,
        feedbacks={"fa": fa_feedback} if fa_feedback else None,
        reduction=record.reduction,
        unfolding=record.unfolding,
        rows=_rows(record.rows),
        signals=PROBE_SIGNALS if record.signals is None else record.signals,
    )
    return {
        "probes": {"probe": probe},
        "live": None if record.live is None else _live(record.live),
        "every": _when(record.every),
        "state": record.state,
        "layers": record.layers,
        "config": msgspec.to_builtins(config),
    }


def _live(live: LiveConfig) -> Live:
    options = msgspec.structs.asdict(live)
    return Live(**(options | {"every": _when(live.every), "rows": _rows(live.rows)}))


def _when(given: Any) -> Any:
    return logarithmic(given.per_decade) if isinstance(given, LogConfig) else given


def _rows(given: Any) -> Any:
    return Subset(given.n, given.seed) if isinstance(given, SubsetConfig) else given


def meta_of(
    config: Config, data: RunData, layers: Mapping[str, nn.Module], taken: Sequence[str]
) -> dict[str, str | int | float]:
    """Return the entries that tell runs apart: condition, rule, seeds, optimizer, data, primary layer.

    The primary layer is the last hidden one of the forward pass, where a study names no other.
    """
    names = list(layers)
    return {
        "condition": config.label,
        "rule": config.rule,
        "seed": config.seeds.init,
        "data_seed": config.seeds.data,
        "feedback_seed": config.seeds.feedback,
        "model": config.model.name,
        "norm": "given" if config.model.name == "given" else config.model.norm,
        "optimizer": config.optimizer.name,
        "optimizer_layers": " ".join(taken) or "all",
        "learning_rate": config.optimizer.learning_rate,
        "dataset": config.data.name,
        "data_sha256": data.fingerprint,
        "held_out": data.held_out_name,
        "primary_layer": names[-2] if len(names) > 1 else names[-1],
    }
