"""Run a study: several conditions with the same seeds, and a question declared before the runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fadiag.errors import ConfigError, InputError, LockedError
from fadiag.paths import absolute_path
from fadiag.store import run_info
from fadiag.training.config import Config, SeedConfig
from fadiag.training.trainer import train
from fadiag.training.workers import run_each, worker_pool

__all__ = ["Study", "StudyProgress", "run_study"]

#: Called after each run with the runs done, the runs in all and the run's name.
StudyProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Study:
    """Conditions times seeds, with the comparison that the study is made for.

    Attributes
    ----------
    name, question : str
    conditions : mapping of str to Config
        Each by the name that figures show.
    seeds : tuple of int
        A seed sets initialization, data order and feedback of one run of every condition. So runs of one seed
        are paired: same first weights, same batches, same feedback.
    primary_metric : str
    primary_layer : str, optional
        With the metric, the one number that decides the question; by default the last hidden layer of a
        forward pass. All else that the study shows is secondary.

    Examples
    --------
    >>> conditions = {"bp": Config(rule="bp"), "fa": Config()}
    >>> len(Study("s", "Is FA's error of lower rank?", conditions, (0, 1), "error_cosine").runs())
    4
    """

    name: str
    question: str
    conditions: Mapping[str, Config]
    seeds: tuple[int, ...]
    primary_metric: str
    primary_layer: str | None = None

    def __post_init__(self) -> None:
        if not self.conditions or not self.seeds:
            raise InputError(f"study {self.name!r} has no {'seeds' if self.conditions else 'conditions'}")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"study {self.name!r} names a seed twice: {self.seeds}")

    def runs(self) -> dict[str, Config]:
        """Return the configuration of every run by its name, condition by condition within each seed.

        Examples
        --------
        >>> study = Study("s", "?", {"a": Config(), "b": Config()}, (0, 1), "error_cosine")
        >>> list(study.runs())
        ['a-seed0', 'b-seed0', 'a-seed1', 'b-seed1']
        """
        return {
            f"{condition}-seed{seed}": replace(
                config, condition=condition, seeds=SeedConfig(init=seed, data=seed, feedback=seed)
            )
            for seed in self.seeds
            for condition, config in self.conditions.items()
        }


def run_study(
    study: Study,
    out_dir: str | Path,
    *,
    jobs: int = 2,
    device: str = "cpu",
    progress: StudyProgress | None = None,
) -> list[Path]:
    """Run the missing runs of a study, several at a time, each on one thread.

    The folder gets ``study.json`` before the first run, and a store for each run. A complete store with the
    same configuration is left as it is. The store of a killed or failed run is moved to
    ``NAME.zarr.incomplete``. Runs do not depend on ``jobs``. An interrupt (Ctrl-C) kills the runs that have
    begun.

    Parameters
    ----------
    study : Study
    out_dir : str or Path
    jobs : int
        How many processes. They are spawned, so a script needs ``if __name__ == "__main__":``.
    device : {"cpu", "cuda", "auto"}
    progress : callable, optional
        Called after each run with the runs done, the runs in all and the run's name.

    Returns
    -------
    list of Path
        The stores, in the order of `Study.runs`.

    Raises
    ------
    ConfigError
        The folder holds a study with another primary metric or layer, or a run with another configuration.
    LockedError
        Somebody else is writing one of its runs.
    DivergedError
        The loss of a run is not finite. Runs that have begun are finished, and no other begins. A second call
        skips the complete runs.
    FadiagError
        The process of a run was killed.
    """
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it takes at least one")
    folder = absolute_path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _declare(study, folder / "study.json")
    configs = study.runs()
    stores = {name: folder / f"{name}.zarr" for name in configs}
    todo = [name for name, config in configs.items() if not _is_done(stores[name], config)]
    done = len(configs) - len(todo)
    if progress is not None and done:
        progress(done, len(configs), "already there")
    meta = {
        "study": study.name,
        "primary_metric": study.primary_metric,
        **({} if study.primary_layer is None else {"primary_layer": study.primary_layer}),
    }
    if todo:
        at_once = min(jobs, len(todo))
        calls = {name: (configs[name], stores[name], device, meta) for name in todo}
        with worker_pool(at_once) as pool:
            for name, _ in run_each(pool, _train, calls):
                done += 1
                if progress is not None:
                    progress(done, len(configs), name)
    return list(stores.values())


def _train(config: Config, store: Path, device: str, meta: Mapping[str, Any]) -> None:
    train(config, store, device=device, meta=meta)


def _declare(study: Study, path: Path) -> None:
    declared = {
        "name": study.name,
        "question": study.question,
        "primary_metric": study.primary_metric,
        "primary_layer": study.primary_layer,
        "seeds": list(study.seeds),
        "conditions": {name: msgspec.to_builtins(config) for name, config in study.conditions.items()},
    }
    if path.exists():
        try:
            before = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"{path} is damaged: {error}; delete it or take another folder") from None
        for key in ("primary_metric", "primary_layer"):
            if before.get(key) != declared[key]:
                raise ConfigError(
                    f"{path} declares {key} {before.get(key)!r}, this study {declared[key]!r}: "
                    "the question is declared before the runs; take another folder"
                )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(declared)) + b"\n")


def _is_done(store: Path, config: Config) -> bool:
    """Return whether the run is complete. Move an incomplete store aside, refuse the store of another run."""
    if not store.exists():
        return False
    info = run_info(store)
    if info.status == "recording":
        raise LockedError(
            f"{store} is being written, by another study in this folder; wait for it, or take another folder"
        )
    if info.status != "complete":
        _move_aside(store)
        return False
    recorded, wanted = _flat(info.manifest.get("config") or {}), _flat(msgspec.to_builtins(config))
    different = sorted(key for key in recorded.keys() | wanted.keys() if recorded.get(key) != wanted.get(key))
    if different:
        key = different[0]
        raise ConfigError(
            f"{store} is a run with {key} {recorded.get(key)!r}, this study asks for {wanted.get(key)!r}"
            f"{f' ({len(different)} keys differ)' if len(different) > 1 else ''}; take another folder"
        )
    return True


def _move_aside(store: Path) -> None:
    target, number = store.with_name(f"{store.name}.incomplete"), 1
    while target.exists():
        number += 1
        target = store.with_name(f"{store.name}.incomplete{number}")
    store.rename(target)


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[above + key] = list(value) if isinstance(value, tuple) else value
    return flat
