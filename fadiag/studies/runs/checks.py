"""Check before the first run of a study that its configurations fit their data and networks."""

import torch

from fadiag.errors import ConfigError, InputError
from fadiag.studies.declared.study import Study
from fadiag.studies.runs.data import data_facts
from fadiag.studies.runs.layers import layer_names
from fadiag.studies.runs.search import search_runs
from fadiag.training import Config
from fadiag.training.checks import check_batch_norm, check_counts, check_layers
from fadiag.training.layer_order import layers_in_order
from fadiag.training.learning_rule import apply_rule
from fadiag.training.models import build_model
from fadiag.training.optimizers import build_optimizers
from fadiag.training.samples import RunData, Samples
from fadiag.training.tables import near_names
from fadiag.training.twin import build_twin

__all__ = ["check_study"]


def check_study(study: Study) -> None:
    """Raise ConfigError if a run of the study would be refused, or has no primary layer."""
    _check_layer(study)
    searched = {run.condition: run for _, run in search_runs(study)}
    for run in (*searched.values(), *study.runs(study.conditions)[: len(study.conditions)]):
        try:
            _check(run.config)
        except (ConfigError, InputError) as error:
            raise ConfigError(f"study {study.name!r}, condition {run.condition!r}: {error}") from error


def _check_layer(study: Study) -> None:
    """Raise ConfigError if a network of the primary contrast does not have the primary layer."""
    layer = study.primary.layer
    if layer in ("first", "last_hidden"):
        return
    for name in study.primary.contrast:
        names = layer_names(study.conditions[name].config)
        if layer not in names:
            near = near_names(layer, "", ["first", "last_hidden", *names])
            raise ConfigError(f"study {study.name!r} has the primary layer {layer!r}; {near}")


def _check(config: Config) -> None:
    """Build what the trainer builds of a configuration, in its order, on the CPU."""
    facts, cpu = data_facts(config.data), torch.device("cpu")
    train, held_out = (
        Samples((torch.zeros(count, 0), torch.zeros(count, dtype=torch.long)), cpu)
        for count in (facts.train_samples, facts.held_out_samples)
    )
    check_counts(config, RunData(train, held_out, config.data.held_out, facts.classes, facts.sha256, None))
    model = build_model(config.model, facts.shape, facts.classes, config.seeds.init)
    example = torch.zeros(2, *facts.shape)
    layers = layers_in_order(model, example)
    check_layers(layers, model)
    twin = build_twin(config, model, example).model if config.rule == "borrowed_gates" else None
    model = apply_rule(config, model, layers, example, twin)
    check_batch_norm(config, model)
    build_optimizers(config, model, layers)
