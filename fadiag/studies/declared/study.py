"""Study is a declared study: its question, its conditions, their seeds and their search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from fadiag.errors import ConfigError
from fadiag.studies.declared.tables import (
    FigureTable,
    PrimaryTable,
    SearchTable,
    SeedTable,
    TheoremTable,
)
from fadiag.training import Config, SeedConfig
from fadiag.training.tables import near_names

__all__ = ["Condition", "PlannedRun", "Study"]

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Condition:
    """One arm of a study.

    Attributes
    ----------
    name : str
    config : Config
        Of its runs, without the seeds.
    declared_as : str
        Its name in the file; ``name`` also says its place in the grid.
    place : mapping
        Its value of each key of the grid.
    control : bool
    searched : bool
        Whether a search chooses its rate.
    rate_from : str, optional
        The condition whose rate it takes.
    against : str, optional
        The condition that it is compared with, in place of the baseline of the primary contrast.

    Examples
    --------
    >>> Condition("fa", Config(), "fa").control
    False
    """

    name: str
    config: Config
    declared_as: str
    place: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    control: bool = False
    searched: bool = False
    rate_from: str | None = None
    against: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: its name, its condition and its configuration with the seeds.

    Examples
    --------
    >>> PlannedRun("fa-seed0", "fa", Config()).condition
    'fa'
    """

    name: str
    condition: str
    config: Config


@dataclass(frozen=True)
class Study:
    """A study as its file declares it, under one profile. `load_study` makes it.

    Attributes
    ----------
    name, question : str
    primary : PrimaryTable
        Its contrast has the full names of two conditions.
    conditions : mapping of str to Condition
    seeds : SeedTable
    search : SearchTable, optional
    metrics : tuple of str, optional
    figures : FigureTable
    device : str
    profile : str
    theorems : tuple of TheoremTable

    Examples
    --------
    >>> primary = PrimaryTable(metric="error_cosine", contrast=("fa", "bp"))
    >>> conditions = {name: Condition(name, Config(rule=name), name) for name in ("bp", "fa")}
    >>> study = Study("s", "Is FA's error aligned?", primary, conditions, SeedTable(reported=(0, 1)))
    >>> [run.name for run in study.runs(study.conditions)]
    ['bp-seed0', 'fa-seed0', 'bp-seed1', 'fa-seed1']
    """

    name: str
    question: str
    primary: PrimaryTable
    conditions: Mapping[str, Condition]
    seeds: SeedTable
    search: SearchTable | None = None
    metrics: tuple[str, ...] | None = None
    figures: FigureTable = FigureTable()  # noqa: RUF009 - it is frozen
    device: str = "cpu"
    profile: str = "cpu"
    theorems: tuple[TheoremTable, ...] = ()

    def __post_init__(self) -> None:
        reported, cross = self.seeds.reported, self.seeds.cross
        if len(set(reported)) < len(reported):
            raise ConfigError(f"study {self.name!r} reports a seed twice: {list(reported)}")
        if len(cross) == 1 or len(set(cross)) < len(cross):
            raise ConfigError(
                f"study {self.name!r} crosses {list(cross)}; name two or three of 'init', 'data', 'feedback'"
            )
        if self.search is not None and (both := set(reported) & set(self.search.seeds)):
            raise ConfigError(
                f"study {self.name!r} reports and searches with seed {min(both)}; take other search.seeds"
            )
        for name in self.primary.contrast:
            if name not in self.conditions:
                raise ConfigError(
                    f"study {self.name!r} contrasts {name!r}; {near_names(name, '', self.conditions)}"
                )
            if self.conditions[name].control:
                raise ConfigError(
                    f"study {self.name!r} contrasts {name!r}, which is a control; contrast another condition"
                )
        for name, condition in self.conditions.items():
            source = condition.rate_from
            if source is not None and not self.conditions[source].searched:
                raise ConfigError(
                    f"study {self.name!r} gives {name!r} the rate of {source!r}, which is not searched; "
                    "name a condition that is"
                )
        kinds = {condition.config.record.unfolding for condition in self.conditions.values()}
        if len(kinds) > 1:
            raise ConfigError(
                f"study {self.name!r} records the unfoldings {' and '.join(sorted(kinds))}, and compares no "
                "metrics of two; give all conditions one record.unfolding"
            )
        if len(set(self.primary.contrast)) < 2:
            raise ConfigError(
                f"study {self.name!r} contrasts {self.primary.contrast[0]!r} with itself; name two conditions"
            )

    @property
    def unfolding(self) -> Literal["samples", "channels"]:
        """The rows of the signals' matrices in all its runs."""
        return next(iter(self.conditions.values())).config.record.unfolding

    def seed_tables(self) -> list[SeedConfig]:
        """Return the seeds of each run of a condition.

        Examples
        --------
        >>> primary = PrimaryTable(metric="error_cosine", contrast=("fa", "bp"))
        >>> conditions = {name: Condition(name, Config(rule=name), name) for name in ("bp", "fa")}
        >>> seeds = SeedTable(reported=(0, 1), cross=("init", "feedback"))
        >>> study = Study("s", "?", primary, conditions, seeds)
        >>> [(one.init, one.data, one.feedback) for one in study.seed_tables()]
        [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)]
        """
        cross = [name for name in ("init", "data", "feedback") if name in self.seeds.cross]
        if not cross:
            return [SeedConfig(init=seed, data=seed, feedback=seed) for seed in self.seeds.reported]
        found = []
        for values in product(self.seeds.reported, repeat=len(cross)):
            given = dict(zip(cross, values, strict=True))
            rest = {name: values[0] for name in ("init", "data", "feedback") if name not in given}
            found.append(SeedConfig(**given, **rest))
        return found

    def runs(self, conditions: Mapping[str, Condition]) -> list[PlannedRun]:
        """Return the runs to report, of conditions whose rates are chosen, within each seed."""
        return [
            PlannedRun(f"{name}-{_seed_name(seeds)}", name, replace(condition.config, seeds=seeds))
            for seeds in self.seed_tables()
            for name, condition in conditions.items()
        ]

    def declaration(self) -> dict[str, Any]:
        """Return all that the study declares, as plain values for JSON."""
        return {
            "name": self.name,
            "question": self.question,
            "profile": self.profile,
            "primary": msgspec.to_builtins(self.primary),
            "metrics": None if self.metrics is None else list(self.metrics),
            "seeds": msgspec.to_builtins(self.seeds),
            "search": msgspec.to_builtins(self.search),
            "theorems": msgspec.to_builtins(self.theorems),
            "figures": msgspec.to_builtins(self.figures),
            "device": self.device,
            "conditions": {
                name: {
                    "control": one.control,
                    "searched": one.searched,
                    "rate_from": one.rate_from,
                    **({"against": one.against} if one.against else {}),
                    "config": msgspec.to_builtins(one.config),
                }
                for name, one in self.conditions.items()
            },
        }

    def contrasts(self) -> list[tuple[str, str]]:
        """Return each condition that has a baseline, with it; the primary contrast is the first."""
        first = self.primary.contrast
        others = [(name, self.baseline_of(name)) for name in self.conditions if name not in first]
        return [first, *((name, baseline) for name, baseline in others if baseline is not None)]

    def baseline_of(self, condition: str) -> str | None:
        """Return the condition to compare one with, at its place in the grid; None for what has none.

        It is the one that the condition names (``against``), or else the baseline of the primary contrast.
        A condition that only others name has none.
        """
        treated, baseline = self.primary.contrast
        if condition in (treated, baseline):
            return baseline if condition == treated else None
        one = self.conditions[condition]
        if one.against is None and any(c.against == one.declared_as for c in self.conditions.values()):
            return None
        wanted = one.against or self.conditions[baseline].declared_as
        return self._find(wanted, one.place, set(self.conditions) - {condition})

    def _find(self, declared_as: str, place: Mapping[str, Any], among: Iterable[str]) -> str | None:
        same = (self.conditions[name] for name in self.conditions if name in among)
        return next((c.name for c in same if c.declared_as == declared_as and c.place == place), None)


def _seed_name(seeds: SeedConfig) -> str:
    others = {"data": seeds.data, "feedback": seeds.feedback}
    return "-".join([f"seed{seeds.init}", *(f"{k}{v}" for k, v in others.items() if v != seeds.init)])
