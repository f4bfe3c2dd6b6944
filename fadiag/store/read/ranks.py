"""A run of several processes with one store a rank: where they lie, and that they belong together."""

import os
from pathlib import Path

from fadiag.errors import InputError, StoreError
from fadiag.store.names import rank_name
from fadiag.store.read.snapshot import Snapshot, read_snapshot

__all__ = ["are_ranks", "rank_path", "read_ranks"]


def rank_path(path: str | os.PathLike[str], rank: int) -> Path:
    """Return where the store of one rank of a run is.

    Raises
    ------
    InputError
        The path is a store itself.

    Examples
    --------
    >>> rank_path("run", 1).as_posix()
    'run/rank1.zarr'
    """
    if (Path(path) / "zarr.json").exists():
        raise InputError(
            f"{path} is a store; the ranks' stores need a folder of their own: take another path"
        )
    return Path(path) / rank_name(rank)


def are_ranks(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a folder of ranks' stores and no store."""
    return (Path(path) / rank_name(0)).is_dir() and not (Path(path) / "zarr.json").exists()


def read_ranks(path: str | os.PathLike[str]) -> tuple[Snapshot, ...]:
    """Read the root document of every rank's store.

    Raises
    ------
    StoreError
        A rank's store is missing, or one is of another run.
    NotAStoreError, SchemaError, DamagedError
        As `fadiag.store.open_run`.
    """
    first = read_snapshot(rank_path(path, 0))
    told = first.attributes.manifest.get("ranks")
    size = told.get("size") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(size, int) or size < 1:
        raise StoreError(f"{first.path} was not recorded with ranks='all'; open it by that name")
    found = [first]
    for rank in range(1, size):
        place = rank_path(path, rank)
        if not place.exists():
            raise StoreError(
                f"{path} is a run of {size} ranks and {place.name} is missing; put it there, or open "
                f"{first.path} alone"
            )
        snapshot = read_snapshot(place)
        if snapshot.attributes.manifest.get("ranks") != {**told, "rank": rank}:
            raise StoreError(f"{place} belongs to another run than {first.path}; put the right one there")
        found.append(snapshot)
    return tuple(found)
