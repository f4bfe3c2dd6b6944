"""Save and load the checkpoints of a run, to continue it or to branch another run from it."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from fadiag.errors import ConfigError, InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.rules import RULES
from fadiag.store import inspect_run
from fadiag.training.config import Config
from fadiag.training.samples import RunData
from fadiag.training.state import TrainingState

__all__ = ["Checkpoint", "load_checkpoint", "resumable", "save_checkpoint"]

#: The keys that a branch shares with its run. They fix the state's shapes and its place in an epoch.
_FIXED = (
    "model",
    "data.name",
    "data.train_samples",
    "data.test_samples",
    "data.held_out",
    "train.batch_size",
    "seeds.init",
)
#: Also shared where the optimizer updates the feedback, which is then part of its state.
_FIXED_IF_LEARNED = ("rule", "seeds.feedback")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two updates.

    Attributes
    ----------
    run : Path
        The run's store.
    run_id : str
    config : Config
    contents : dict
        The fingerprint of the data, and all that `TrainingState` gives.

    Examples
    --------
    >>> Checkpoint(Path("run.zarr"), "5f3a", Config(), {"step": 200}).step
    200
    """

    run: Path
    run_id: str
    config: Config
    contents: dict[str, Any]

    @property
    def table(self) -> dict[str, Any]:
        """The configuration as a table, without the keys that are not given."""
        return _given(msgspec.to_builtins(self.config))

    @property
    def step(self) -> int:
        """The number of updates made."""
        return int(self.contents["step"])

    def check_branch(self, config: Config) -> None:
        """Raise ConfigError if a run with this configuration cannot branch off here."""
        for key in _FIXED:
            before, now = _value(self.config, key), _value(config, key)
            if before != now:
                raise ConfigError(
                    f"{key} is {now!r}, and {before!r} in the checkpoint of step {self.step}; a branch keeps "
                    "it, so train a new run for another"
                )
        learned = next(filter(_learns_feedback, (self.config.rule, config.rule)), None)
        for key in () if learned is None else _FIXED_IF_LEARNED:
            before, now = _value(self.config, key), _value(config, key)
            if before != now:
                raise ConfigError(
                    f"{key} is {now!r}, and {before!r} in the checkpoint of step {self.step}; the "
                    f"optimizer's state includes the feedback under {learned!r}, "
                    f"so train a new run for another {key}"
                )
        steps = config.train.epochs * (len(self.contents["order"]) // config.train.batch_size)
        if self.step >= steps:
            raise ConfigError(
                f"train.epochs is {config.train.epochs}, which is {steps} steps, and the checkpoint has "
                f"{self.step} already; take more"
            )

    def check_data(self, data: RunData) -> None:
        """Raise ConfigError if a run with these data cannot go on from here.

        A user's data set has no fingerprint; then only the numbers of samples are compared.
        """
        way = f"in the checkpoint of step {self.step}; give the same data, or train a new run"
        before, now = self.contents["data_sha256"], data.fingerprint
        if before and now and before != now:
            raise ConfigError(f"data has the SHA-256 {now[:12]}..., and {before[:12]}... {way}")
        if (samples := len(self.contents["order"])) != len(data.train):
            raise ConfigError(f"data has {len(data.train):,} training samples, and {samples:,} {way}")


def save_checkpoint(store: Path, run_id: str, config: Config, data: RunData, state: TrainingState) -> Path:
    """Write the state to a file in the folder ``STORE.checkpoints``. It appears only when it is complete.

    `torch.load` reads it with ``weights_only=True``.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    path = _path(store, state.step)
    about = {"run_id": run_id, "config": msgspec.to_builtins(config), "data_sha256": data.fingerprint}
    contents = {**about, **state.contents()}
    unfinished = path.with_suffix(".unfinished")
    try:
        path.parent.mkdir(exist_ok=True)
        with unfinished.open("wb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"checkpoint {path} cannot be written: {error}") from error
    return path


def load_checkpoint(run: str | Path, step: int) -> Checkpoint:
    """Read a checkpoint of a run.

    Parameters
    ----------
    run : str or Path
        The run's store.
    step : int

    Raises
    ------
    InputError
        The run has no checkpoint of that step (the error lists the others), or the file is damaged.

    Examples
    --------
    >>> load_checkpoint("/nowhere/run.zarr", 100)
    Traceback (most recent call last):
    fadiag.errors.InputError: /nowhere/run.zarr has no checkpoint of step 100; it has none at all
    """
    store = absolute_path(run)
    path = _path(store, step)
    if not path.exists():
        steps = ", ".join(map(str, _steps(store)))
        there = f"it has those of steps {steps}" if steps else "it has none at all"
        raise InputError(f"{store} has no checkpoint of step {step}; {there}")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
        config = msgspec.convert(contents.pop("config"), Config)
        return Checkpoint(store, contents.pop("run_id"), config, contents)
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        pickle.UnpicklingError,
        msgspec.ValidationError,
    ) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"checkpoint {path} is damaged: {why}; take an earlier one") from None


def resumable(store: Path, config: Config) -> Checkpoint | None:
    """Return the newest checkpoint with all earlier records in the store; None if there is none.

    Raises
    ------
    ConfigError
        The store is that of another configuration.
    """
    summary = inspect_run(store)
    info = summary.info
    if info.manifest.get("config") != msgspec.json.decode(msgspec.json.encode(config)):
        raise ConfigError(f"{store} is a run of another configuration; take another path, or a branch of it")
    log = next((stream for stream in summary.streams if stream.name == "log"), None)
    committed = -1 if log is None or log.last_step is None else log.last_step
    # A record of the checkpoint's own step comes after all records of the steps before.
    for step in reversed(_steps(store)):
        if step <= committed:
            checkpoint = load_checkpoint(store, step)
            if checkpoint.run_id == info.run_id:
                return checkpoint
    return None


def _path(store: Path, step: int) -> Path:
    return store.with_name(f"{store.name}.checkpoints") / f"{step}.pt"


def _steps(store: Path) -> list[int]:
    return sorted(int(path.stem) for path in _path(store, 0).parent.glob("*.pt") if path.stem.isdecimal())


def _given(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table as TOML could have it, which has no null."""
    return {
        key: _given(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _learns_feedback(name: str) -> bool:
    return any(rule.name == name and rule.layer and rule.layer.feedback_is_learned for rule in RULES)


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return msgspec.to_builtins(value)
