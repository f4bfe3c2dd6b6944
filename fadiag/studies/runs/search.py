"""Search the learning rate of every condition of a study, and choose by one rule for all."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from msgspec.structs import replace as with_keys

from fadiag.store import open_run
from fadiag.studies.declared.study import Condition, PlannedRun, Study
from fadiag.studies.declared.tables import SearchTable
from fadiag.training import Config, SeedConfig

__all__ = ["Curve", "Point", "choose", "rate_chosen", "rated", "score_of", "search_runs"]

#: A run of the search is not analyzed, so it records little.
_PROBE_SAMPLES = 64


@dataclass(frozen=True)
class Point:
    """One rate of a condition: the setting of the search, the rate, and the score of each seed or None.

    A score is None if the run diverged.

    Examples
    --------
    >>> Point(0.1, 0.1, (0.5, 0.7)).mean
    0.6
    """

    setting: float
    learning_rate: float
    scores: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """The mean score, or None if a seed diverged."""
        scores = [score for score in self.scores if score is not None]
        return fmean(scores) if len(scores) == len(self.scores) else None


@dataclass(frozen=True)
class Curve:
    """The scores of a condition over the rates, and the choice; None if every rate diverges.

    Examples
    --------
    >>> curve = choose([Point(0.01, 0.01, (0.6,)), Point(0.1, 0.1, (0.7,)), Point(1.0, 1.0, (None,))])
    >>> curve.best, curve.chosen, curve.at_edge
    (0.1, 0.1, False)
    """

    points: tuple[Point, ...]
    best: float | None
    chosen: float | None
    at_edge: bool


def choose(points: Iterable[Point]) -> Curve:
    """Return the curve with the smallest setting within one standard error of the best mean.

    A setting at which a seed diverged does not count. With one seed there is no standard error, and the best
    is chosen. If a curve is flat, the best of few seeds is chance. Then the smallest good rate is the one
    furthest from divergence. The curve is at its edge if the best or the chosen setting is the first or last.

    Examples
    --------
    >>> flat = [Point(rate, rate, (0.5, 0.7)) for rate in (0.01, 0.1, 1.0)]
    >>> choose(flat).chosen, choose(flat).at_edge
    (0.01, True)
    >>> choose([Point(1.0, 1.0, (None,))]).chosen is None
    True
    """
    held = tuple(sorted(points, key=lambda point: point.setting))
    means = {point.setting: point.mean for point in held}
    finite = {setting: mean for setting, mean in means.items() if mean is not None}
    if not finite:
        return Curve(held, None, None, False)
    best = max(finite, key=lambda setting: (finite[setting], -setting))
    scores = next([s for s in point.scores if s is not None] for point in held if point.setting == best)
    error = stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
    chosen = min(setting for setting, mean in finite.items() if mean >= finite[best] - error)
    ends = {held[0].setting, held[-1].setting}
    return Curve(held, best, chosen, bool({best, chosen} & ends))


def _settings_of(search: SearchTable) -> Sequence[float]:
    """Return the settings of a search: its rates, or its factors on the declared rates."""
    return search.rates or search.factors or ()


def rated(config: Config, search: SearchTable, setting: float) -> Config:
    """Return a configuration at a setting of the search: all of its rates are scaled by one factor.

    Examples
    --------
    >>> from fadiag.training import OptimizerConfig
    >>> muon = Config(optimizer=OptimizerConfig(name="muon", learning_rate=0.1))
    >>> faster = rated(muon, SearchTable(rates=(0.2,), seeds=(9,)), 0.2).optimizer
    >>> faster.learning_rate, faster.rest.learning_rate
    (0.2, 0.002)
    """
    optimizer = config.optimizer
    factor = setting / optimizer.learning_rate if search.rates else setting
    rate = setting if search.rates else factor * optimizer.learning_rate
    rest = optimizer.rest
    if optimizer.uses_rest:
        rest = with_keys(rest, learning_rate=_tidy(factor * rest.learning_rate))
    return with_keys(config, optimizer=with_keys(optimizer, learning_rate=_tidy(rate), rest=rest))


def _tidy(rate: float) -> float:
    """Return a rate without the rounding of its factor, so that 0.1 * 3 and 0.3 are one run."""
    return float(f"{rate:.12g}")


def search_runs(study: Study) -> list[tuple[float, PlannedRun]]:
    """Return the runs of the search with their settings. They record the first and the last step only."""
    search = study.search
    if search is None:
        return []
    found = []
    for name, condition in study.conditions.items():
        if not condition.searched:
            continue
        for setting in _settings_of(search):
            config = rated(condition.config, search, setting)
            data = with_keys(config.data, held_out="validation")
            held_out = (data.train_samples or 5 * _PROBE_SAMPLES) // 5 or 1
            record = with_keys(
                config.record,
                every=10**9,
                signals=("error",),
                state=(),
                live=None,
                probe_samples=min(config.record.probe_samples, _PROBE_SAMPLES, held_out),
                redraws=0,
                gate_draws=0,
                jacobian_vectors=0,
            )
            for seed in search.seeds:
                seeds = SeedConfig(init=seed, data=seed, feedback=seed)
                run = with_keys(config, data=data, record=record, seeds=seeds)
                found.append((setting, PlannedRun(f"{name} at {setting:g}, seed {seed}", name, run)))
    return found


def rate_chosen(study: Study, curves: Mapping[str, Curve]) -> dict[str, Condition]:
    """Return the conditions with their chosen rates, without those that train at no rate."""
    found: dict[str, Condition] = {}
    for name, condition in study.conditions.items():
        source = condition.rate_from or name
        curve = curves.get(source)
        if study.search is None or curve is None:
            found[name] = condition
        elif curve.chosen is not None:
            found[name] = replace(condition, config=rated(condition.config, study.search, curve.chosen))
    return found


def score_of(store: Path, name: str) -> float | None:
    """Return the last logged value of a run, or None if it is not finite."""
    values = open_run(store)[f"log/{name}"].dropna("step").values
    last = float(values[-1]) if len(values) else math.nan
    return last if math.isfinite(last) else None
