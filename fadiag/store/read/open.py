"""Open a run as an `xarray.DataTree`, or read only its manifest and status."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fadiag.errors import DamagedError, FadiagError, StoreError
from fadiag.store.lock import is_locked
from fadiag.store.read.arrays import read_steps
from fadiag.store.read.chunks import check_chunk
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.snapshot import Snapshot
from fadiag.store.values import JSON

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RunInfo", "check_committed", "info_of", "open_run", "run_info", "status_of"]


@dataclass(frozen=True)
class RunInfo:
    """Describe a run without its arrays.

    ``status`` is ``recording`` (a writer holds the store), ``killed`` (the writer died without closing it),
    ``complete``, ``unfinished`` (closed when Python ended), ``failed`` (the run ended in an exception) or
    ``sealed`` (compacted).

    Examples
    --------
    >>> info = RunInfo(Path("run.zarr"), "5f3a", 0, "killed", 0.0, 9.0, {"probe": 3}, {"meta": {"seed": 0}})
    >>> info.status, info.committed["probe"]
    ('killed', 3)
    """

    path: Path
    run_id: str
    generation: int
    status: str
    created: float
    updated: float
    committed: Mapping[str, int]
    manifest: Mapping[str, JSON]


def status_of(snapshot: Snapshot) -> str:
    """Return the status of a run; it is "killed" if it was recording and its store is not locked."""
    status = snapshot.attributes.status
    if status == "recording" and not is_locked(snapshot.path):
        return "killed"
    return status


def run_info(path: str | os.PathLike[str]) -> RunInfo:
    """Read a run's manifest and status without opening its arrays.

    Parameters
    ----------
    path : path
        A store.

    Returns
    -------
    RunInfo

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `open_run`.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={"meta": {"seed": 3}}) as writer:
    ...     info = run_info(path)
    >>> info.status, info.manifest["meta"], run_info(path).status
    ('recording', {'seed': 3}, 'complete')
    """
    return info_of(read_snapshot(path))


def info_of(snapshot: Snapshot) -> RunInfo:
    """Return the description of a snapshot's run."""
    attributes = snapshot.attributes
    return RunInfo(
        snapshot.path,
        attributes.run_id,
        attributes.generation,
        status_of(snapshot),
        attributes.created,
        attributes.updated,
        attributes.committed,
        attributes.manifest,
    )


def open_run(
    path: str | os.PathLike[str], chunks: Mapping[str, int] | Literal["auto"] | int | None = None
) -> "xr.DataTree":
    """Open a recorded run lazily: values are read when they are used.

    A run that is being recorded shows the records that were committed when it was opened. Later commits do
    not change the open tree.

    Parameters
    ----------
    path : path
        A store of any status: recording, killed, complete or sealed.
    chunks : optional
        As in `xarray.open_datatree`: any value but None gives dask arrays and needs the extra ``dask``.
        ``{}`` uses the store's own chunks.

    Returns
    -------
    xarray.DataTree
        ``tree["probe/fc1/error"]`` has dimensions (step, sample, out). The root's attributes hold
        ``manifest``, ``run_id``, ``generation`` and ``committed``.

    Raises
    ------
    NotAStoreError
        The path does not exist, or is not a fadiag store.
    SchemaError
        Another version of fadiag wrote the store.
    DamagedError
        The metadata are invalid, a committed chunk is missing or too short, or the steps do not increase.
    StoreError
        The run has no committed record.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     for step in (0, 10):
    ...         writer.append("log", step, {}, extra={"loss": 1.0 / (1 + step)})
    >>> open_run(path)["log/loss"].sel(step=0).item()
    1.0
    """
    import xarray as xr

    from fadiag.store.read.xarray_backend import SnapshotBackend, tree_of

    snapshot = read_snapshot(path)
    check_committed(snapshot)
    try:
        if chunks is None:
            return tree_of(snapshot, cache=True)
        return xr.open_datatree(snapshot, engine=SnapshotBackend, chunks=chunks)  # type: ignore[arg-type]
    except FadiagError:
        raise
    except ImportError as error:
        raise StoreError(f"chunks={chunks!r} needs dask: pip install 'fadiag[dask]' ({error})") from None
    except Exception as error:
        raise DamagedError(
            f"{path} cannot be opened: {type(error).__name__}: {error}; run `fadiag verify` on it"
        ) from error


def check_committed(snapshot: Snapshot) -> None:
    """Raise an error if a run has no records, or if its files hold fewer records than its metadata say."""
    if not any(snapshot.attributes.committed.values()):
        raise StoreError(
            f"run {snapshot.path} is empty: no step was committed to any stream"
            f" ({status_of(snapshot)}); record one"
        )
    for array in snapshot.arrays.values():
        # Check the last chunk first: a false length is then refused before memory is allocated for it.
        if all(array.layout.shape):
            check_chunk(snapshot.path, array, array.layout.key(*(n - 1 for n in array.layout.grid)))
    for stream in snapshot.attributes.committed:
        read_steps(snapshot, stream)
