"""Handle a store that already exists at the recorder's path: refuse, resume or replace it."""

import shutil
from pathlib import Path
from typing import Literal

from fadiag.errors import InputError, LockedError, NotAStoreError, StoreError
from fadiag.store import run_info

__all__ = ["IfExists", "check_free", "delete_store"]

IfExists = Literal["error", "resume", "replace"]


def check_free(path: Path, if_exists: IfExists, resume_from: int | None) -> None:
    """Raise if the path exists and ``if_exists`` does not allow that.

    Raises
    ------
    InputError
        The choice is unknown, or it contradicts ``resume_from``.
    StoreError
        The path exists; `LockedError` if another recorder is writing there, `NotAStoreError` if it holds
        something else.
    """
    if if_exists not in ("error", "resume", "replace"):
        raise InputError(f"if_exists is {if_exists!r}; it is 'error', 'resume' or 'replace'")
    if path.exists() and not (path / "zarr.json").exists():
        what = "no fadiag store" if path.is_dir() else "a file and no fadiag store"
        raise NotAStoreError(
            f"{path} is {what}, so it is neither resumed nor replaced; take another path, or move it away"
        )
    if resume_from is not None:
        if if_exists == "replace":
            raise InputError(
                "if_exists='replace' deletes the records that resume_from needs; give one of them"
            )
        return
    if if_exists == "error" and path.exists():
        raise StoreError(
            f"{path} exists; take another path, or give if_exists='resume' to go on in it, "
            "if_exists='replace' to delete it first"
        )
    if if_exists == "replace" and path.exists():
        _check_deletable(path)


def delete_store(path: Path) -> None:
    """Delete a store that nobody is writing; do nothing if the path does not exist.

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        The path holds something else.
    LockedError
        Another recorder is writing the store.
    """
    if path.exists():
        _check_deletable(path)
        shutil.rmtree(path)


def _check_deletable(path: Path) -> None:
    if run_info(path).status == "recording":
        raise LockedError(
            f"{path} is being written by another recorder and is not replaced; close that one, or take "
            "another path"
        )
