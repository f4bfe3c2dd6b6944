"""List the runs of a study, and find them and the curves of its search in the pool."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fadiag.paths import absolute_path
from fadiag.studies.declared.study import PlannedRun, Study
from fadiag.studies.runs.address import address_of
from fadiag.studies.runs.checks import check_study
from fadiag.studies.runs.pool import outcome_of, store_of
from fadiag.studies.runs.search import Curve, Point, choose, rate_chosen, score_of, search_runs
from fadiag.training import Config
from fadiag.training.checks import pick_device

__all__ = ["Planned", "curves_of", "device_of", "has_fixed_rate", "place_of", "plan_study"]


@dataclass(frozen=True)
class Planned:
    """One run of a plan: its name, its address, and how it is in the pool; None if it is not there.

    Runs whose rate a search will choose have no address yet.

    Examples
    --------
    >>> Planned("fa-seed0", "00ff", None).status is None
    True
    """

    name: str
    address: str | None
    status: str | None


def plan_study(study: Study, pool: str | Path) -> list[Planned]:
    """Return all runs of a study, and which of them are in the pool.

    Raises
    ------
    ConfigError
        A configuration does not fit its data or network.

    Examples
    --------
    >>> from fadiag.studies import find_study, load_study
    >>> plan = plan_study(load_study(find_study("demo")), "/nowhere/pool")
    >>> len(plan), plan[0].name, plan[0].status
    (18, 'bp-seed0', None)
    """
    check_study(study)
    home = absolute_path(pool)
    searched = search_runs(study)
    device = device_of(study)
    done = all(outcome_of(place_of(home, run.config, device)) for _, run in searched)
    rated = rate_chosen(study, curves_of(study, home, searched) if done else {})
    plan = [_planned(home, run, device) for _, run in searched]
    for run in study.runs(rated):
        known = done or has_fixed_rate(study, run.condition)
        plan.append(_planned(home, run, device) if known else Planned(run.name, None, None))
    return plan


def _planned(home: Path, run: PlannedRun, device: str) -> Planned:
    place = place_of(home, run.config, device)
    outcome = outcome_of(place)
    return Planned(run.name, place.name, None if outcome is None else outcome.status)


def has_fixed_rate(study: Study, name: str) -> bool:
    """Return whether a condition has the rate that it declares."""
    return not study.conditions[name].searched and study.conditions[name].rate_from is None


def device_of(study: Study) -> str:
    """Return the kind of device that trains a study's runs; "auto" is what this machine has."""
    return pick_device("auto").type if study.device == "auto" else study.device


def place_of(home: Path, config: Config, device: str = "cpu") -> Path:
    """Return the folder of a run in the pool."""
    return home / address_of(config, device)


def curves_of(study: Study, home: Path, searched: Iterable[tuple[float, PlannedRun]]) -> dict[str, Curve]:
    """Return the curve of each searched condition, from the runs of the search."""
    found: dict[str, dict[float, tuple[float, list[float | None]]]] = {}
    for setting, run in searched:
        assert study.search is not None
        place = place_of(home, run.config, device_of(study))
        outcome = outcome_of(place)
        ended = outcome is not None and outcome.status == "complete"
        score = score_of(store_of(place), study.search.score) if ended else None
        rate = run.config.optimizer.learning_rate
        found.setdefault(run.condition, {}).setdefault(setting, (rate, []))[1].append(score)
    return {
        name: choose(Point(setting, rate, tuple(scores)) for setting, (rate, scores) in points.items())
        for name, points in found.items()
    }
