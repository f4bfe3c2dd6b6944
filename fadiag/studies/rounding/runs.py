"""Train the runs whose gradients are orthogonalized again, and write the rows of all of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from fadiag.errors import ConfigError, FadiagError
from fadiag.studies.declared.study import Study
from fadiag.studies.outputs.rows import write_rows
from fadiag.studies.plan import place_of
from fadiag.studies.rounding.measure import DRAWS, rows_of_store
from fadiag.studies.runs.pool import finish_run, store_of
from fadiag.training import Config

__all__ = ["means_of", "measure_rounding", "recording_gradients"]

#: The records are at these shares of a run.
_PARTS = (0, 1 / 6, 1 / 2, 1)
#: The columns of ``means.csv``.
_AVERAGED = (
    "gradient_effective_rank",
    "effective_rank",
    "effective_rank_energy",
    "cosine_bp",
    "rounding_share",
    "rounding_cosine_bp",
)


def recording_gradients(config: Config) -> Config:
    """Return a configuration that records what is orthogonalized, at the beginning and three later steps.

    The probe has as many images as a batch, so that its gradients have the rank of a batch's.

    Raises
    ------
    ConfigError
        The optimizer is not Muon, or the number of images is left to the data set.

    Examples
    --------
    >>> from fadiag.training import DataConfig, OptimizerConfig, TrainConfig
    >>> muon, data = OptimizerConfig(name="muon"), DataConfig(name="digits", train_samples=400)
    >>> made = recording_gradients(Config(rule="fa", optimizer=muon, data=data, train=TrainConfig(epochs=6)))
    >>> made.record.every, made.record.probe_samples == made.train.batch_size
    ((0, 8, 24, 48), True)
    """
    if config.optimizer.name != "muon":
        raise ConfigError(f"optimizer.name is {config.optimizer.name!r}; its steps are not orthogonalized")
    batch, images = config.train.batch_size, config.data.train_samples
    if images is None:
        raise ConfigError("data.train_samples is not given; it has to be, since it sets the last step")
    steps = config.train.epochs * (images // batch)
    record = replace(
        config.record,
        every=tuple(round(part * steps) for part in _PARTS),
        probe_samples=batch,
        signals=("gradient", "gradient_bp"),
        state=("gradient", "momentum"),
        redraws=0,
        gate_draws=0,
        error_fa=False,
    )
    return replace(config, record=record, train=replace(config.train, checkpoint_every=None))


def measure_rounding(
    study: Study, output: Path, *, draws: int = DRAWS, progress: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Train the primary baseline of a study of Muon with each seed; write ``steps.csv`` and ``means.csv``.

    The runs are in the folder ``pool``. A run that has ended is not trained again.

    Raises
    ------
    FadiagError
        A run diverged, failed, or is held by another process.
    """
    config = recording_gradients(study.conditions[study.primary.contrast[1]].config)
    rows: list[dict[str, Any]] = []
    for seeds in study.seed_tables():
        run = replace(config, seeds=seeds)
        place = place_of(output / "pool", run, study.device)
        progress(f"training seed {seeds.init}")
        answer = finish_run(place, run, study.device)
        if answer.status != "complete":
            raise FadiagError(f"the run of seed {seeds.init} in {place} is {answer.status}: {answer.message}")
        progress(f"measuring seed {seeds.init}")
        rows += rows_of_store(store_of(place), draws=draws)
    write_rows(rows, output / "steps.csv")
    write_rows(means_of(rows), output / "means.csv")
    return rows


def means_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each source and method: the means over seeds, steps and layers.

    Examples
    --------
    >>> rows = [{"source": "gradient", "method": "bf16", "effective_rank": rank} for rank in (2.0, 4.0)]
    >>> [means] = means_of(rows)
    >>> means["rows"], means["effective_rank"]
    (2, 3.0)
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["source"], row["method"]), []).append(row)
    found = []
    for (source, method), some in groups.items():
        means: dict[str, Any] = {"source": source, "method": method, "rows": len(some)}
        for name in _AVERAGED:
            values = [float(row[name]) for row in some if isinstance(row.get(name), float)]
            if values and np.isfinite(values).all():
                means[name] = float(np.mean(values))
        found.append(means)
    return found
