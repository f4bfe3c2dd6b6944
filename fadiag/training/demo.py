"""Define the small rank study that `fadiag demo` runs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from msgspec.structs import replace

from fadiag.errors import ConfigError
from fadiag.training.config import (
    Config,
    DataConfig,
    ModelConfig,
    RecordConfig,
    TrainConfig,
)
from fadiag.training.study import Study

__all__ = ["DEMO_SEEDS", "condition_configs", "demo_base", "demo_study"]

#: The reported seeds. The learning rates were tuned on other seeds, see docs/learning-rates.md.
DEMO_SEEDS = (0, 1, 2)

#: Training, network and recording for each data set. The 99 redraws cost most of a run's time, so there
#: are few records.
_BASES: Mapping[str, Config] = MappingProxyType(
    {
        "digits": Config(
            train=TrainConfig(epochs=30, batch_size=50),
            model=ModelConfig(hidden=(128, 128, 128)),
            record=RecordConfig(every=156, probe_samples=256, redraws=99, gate_draws=20),
        ),
        "fashion-mnist": Config(
            train=TrainConfig(epochs=6, batch_size=128),
            data=DataConfig(name="fashion-mnist", train_samples=10_000, test_samples=2_000),
            model=ModelConfig(hidden=(256, 256, 256)),
            record=RecordConfig(every=52, probe_samples=256, redraws=99, gate_draws=20),
        ),
        "cifar10": Config(
            train=TrainConfig(epochs=6, batch_size=128),
            data=DataConfig(name="cifar10", train_samples=10_000, test_samples=2_000),
            model=ModelConfig(hidden=(256, 256, 256)),
            record=RecordConfig(every=52, probe_samples=256, redraws=99, gate_draws=20),
        ),
    }
)

#: Muon trains the weights of all layers but the last. Adam at 1e-3 trains the rest, as in `OptimizerConfig`.
#: analyses/tune_learning_rates.py tuned the rates for the digits; docs/learning-rates.md shows the curves.
#: The rates for the other two data sets come from a pilot and are not tuned for this network.
_LEARNING_RATES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "digits": {"bp": 0.01, "fa": 0.03, "fa+bn": 0.03, "fa+muon": 0.01, "fa+muon+bn": 0.1, "frozen": 0.03},
        "fashion-mnist": {
            "bp": 0.01,
            "fa": 0.003,
            "fa+bn": 0.03,
            "fa+muon": 0.03,
            "fa+muon+bn": 0.03,
            "frozen": 0.01,
        },
        "cifar10": {
            "bp": 0.01,
            "fa": 0.003,
            "fa+bn": 0.03,
            "fa+muon": 0.03,
            "fa+muon+bn": 0.03,
            "frozen": 0.003,
        },
    }
)


def demo_base(data: str, data_dir: str | Path | None = None) -> Config:
    """Return the configuration that all conditions share on a data set.

    Raises
    ------
    ConfigError
        The data set has no demonstration.

    Examples
    --------
    >>> demo_base("digits").data.name
    'digits'
    """
    if data not in _BASES:
        raise ConfigError(f"no data set {data!r} for the demonstration; there are {', '.join(_BASES)}")
    base = _BASES[data]
    return replace(base, data=replace(base.data, folder=None if data_dir is None else str(data_dir)))


def condition_configs(base: Config, learning_rates: Mapping[str, float]) -> dict[str, Config]:
    """Return the configurations of the six conditions: the base with rule, norm, optimizer and learning rate.

    Examples
    --------
    >>> rates = dict.fromkeys(("bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen"), 0.01)
    >>> list(condition_configs(Config(), rates)) == list(rates)
    True
    """

    def condition(rule: str, optimizer: Literal["sgd", "muon"], norm: Literal["none", "batch"]) -> Config:
        config = replace(
            base,
            rule=rule,
            model=replace(base.model, norm=norm),
            optimizer=replace(base.optimizer, name=optimizer),
        )
        rate = learning_rates[config.label]
        return replace(config, optimizer=replace(config.optimizer, learning_rate=rate))

    configs = (
        condition("bp", "sgd", "none"),
        condition("fa", "sgd", "none"),
        condition("fa", "sgd", "batch"),
        condition("fa", "muon", "none"),
        condition("fa", "muon", "batch"),
        condition("frozen", "sgd", "none"),
    )
    return {config.label: config for config in configs}


def demo_study(data: str = "digits", data_dir: str | Path | None = None) -> Study:
    """Return the small rank study: six conditions, three seeds.

    Parameters
    ----------
    data : {"digits", "fashion-mnist", "cifar10"}
    data_dir : str or Path, optional
        The folder of the files; the digits come with the package.

    Examples
    --------
    >>> len(demo_study().runs())
    18
    """
    return Study(
        name=f"rank-{data}",
        question="Is the rank of the last hidden layer's error lower under Feedback Alignment than under BP?",
        conditions=condition_configs(demo_base(data, data_dir), _LEARNING_RATES[data]),
        seeds=DEMO_SEEDS,
        primary_metric="error_participation_ratio_centered",
    )
