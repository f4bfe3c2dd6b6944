"""Keep runs in a pool: one folder for each address, one writer at a time, nothing finished lost."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import torch

from fadiag.errors import ConfigError, FadiagError, StoreError
from fadiag.store import run_info
from fadiag.training import TRAINER_VERSION, Config, DivergedError, train

__all__ = ["Answer", "Outcome", "finish_run", "outcome_of", "store_of"]

Status: TypeAlias = Literal["complete", "diverged"]
#: Beside an outcome: another process works on the run, the disk is full, or another error.
Answered: TypeAlias = Literal["complete", "diverged", "busy", "full", "failed"]

#: One run at a time in a process, which may be a dask worker of several threads: torch has one generator.
_ONE_RUN = threading.Lock()
#: A disk with less room is full: torch.save does not say why it cannot write a checkpoint.
_FULL_BYTES = 1 << 20


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended; ``outcome.json`` in its folder holds this.

    Examples
    --------
    >>> Outcome(status="complete", trainer=1, config=Config()).status
    'complete'
    """

    status: Status
    message: str = ""
    trainer: int
    config: Config


@dataclass(frozen=True)
class Answer:
    """What `finish_run` says of a run, as a plain value that crosses to another process.

    Examples
    --------
    >>> Answer("busy").message
    ''
    """

    status: Answered
    message: str = ""


def store_of(place: Path) -> Path:
    """Return the store of the run with this folder."""
    return place / "run.zarr"


def outcome_of(place: Path) -> Outcome | None:
    """Return how the run with this folder ended; None if it has not, or if its store is gone."""
    path = place / "outcome.json"
    if not store_of(place).exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} is damaged: {error}; delete the folder {place}") from None


def finish_run(place: Path, config: Config, device: str = "cpu", wait: bool = False) -> Answer:
    """Train the run of a folder to its end, from its newest checkpoint if it was killed.

    A run that has ended is left alone, also one that diverged. The folder's lock is the operating system's,
    and dies with its holder. The checkpoints of a run that has ended are removed. Training uses one thread:
    the numbers do not depend on the number of cores.

    Parameters
    ----------
    place : Path
        The run's folder, named by its address.
    config : Config
    device : {"cpu", "cuda", "auto"}
    wait : bool
        Wait while another process works on the run, in place of the answer "busy".

    Returns
    -------
    Answer
        Every error is an answer, so that one run ends no other.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _held(place / "lock", wait) as held:
            if not held:
                return Answer("busy")
            ended = outcome_of(place)
            if ended is None:
                with _ONE_RUN, _one_thread():
                    ended = _train(place, config, device)
            return Answer(ended.status, ended.message)
    except Exception as error:
        text = str(error) if isinstance(error, FadiagError) else f"{type(error).__name__}: {error}"
        return Answer("full" if _disk_is_full(error, place) else "failed", text)


def _train(place: Path, config: Config, device: str) -> Outcome:
    store = store_of(place)
    _remove_unless_of(store, config)
    try:
        train(config, store, device=device, resume=True)
        ended = Outcome(status="complete", trainer=TRAINER_VERSION, config=config)
    except DivergedError as error:
        ended = Outcome(status="diverged", message=str(error), trainer=TRAINER_VERSION, config=config)
    fresh = place / f".outcome.{os.getpid()}"
    with fresh.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(ended)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(place / "outcome.json")
    shutil.rmtree(_checkpoints(store), ignore_errors=True)
    return ended


def _remove_unless_of(store: Path, config: Config) -> None:
    """Remove a store that this run cannot go on in: killed before it had metadata, or read another folder."""
    if not store.exists():
        return
    try:
        before = run_info(store).manifest.get("config")
    except StoreError:
        before = None
    if before != msgspec.json.decode(msgspec.json.encode(config)):
        shutil.rmtree(store)
        shutil.rmtree(_checkpoints(store), ignore_errors=True)


def _checkpoints(store: Path) -> Path:
    return store.with_name(f"{store.name}.checkpoints")


@contextmanager
def _held(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock while the block runs; yield whether it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _disk_is_full(error: BaseException | None, place: Path) -> bool:
    """Return whether an error, or one that it comes from, is that of a full disk."""
    saving = isinstance(error, StoreError)
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return saving and place.exists() and shutil.disk_usage(place).free < _FULL_BYTES
