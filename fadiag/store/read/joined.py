"""The stores of a run's ranks as one `xarray.DataTree`: live samples of all, everything else of rank 0."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendEntrypoint

from fadiag.errors import DamagedError
from fadiag.store.axes import ROWS, rows_of_layer
from fadiag.store.layout import fill_value
from fadiag.store.names import COORDINATES
from fadiag.store.read.chunks import Key, positions_of, read_array, read_steps, without_integer_axes
from fadiag.store.read.snapshot import Snapshot, StoredArray
from fadiag.store.read.xarray_backend import LazyArray, SnapshotBackend, lazy_variable

__all__ = ["JoinedBackend"]

_Index = NDArray[np.intp]


@dataclass(frozen=True)
class _Shared:
    """The steps that every rank has of a stream: their records and valid rows, by rank."""

    steps: NDArray[np.int64]
    records: tuple[_Index, ...]
    valid: tuple[NDArray[np.int64], ...]

    def of_layer(self, home: str, snapshots: Sequence[Snapshot]) -> "_Shared":
        """Return the same with the valid rows of a layer, where a rank has others there."""
        valid = list(self.valid)
        for rank, (snapshot, at) in enumerate(zip(snapshots, self.records, strict=True)):
            array = snapshot.arrays.get(f"{home}/{ROWS}")
            if array is not None:
                own = read_array(snapshot.path, array, (at,)).astype(np.float64)
                valid[rank] = rows_of_layer(own, valid[rank])
        return replace(self, valid=tuple(valid))


@dataclass(frozen=True, repr=False)
class _JoinedArray(LazyArray):
    """One array of all ranks: rank 0's valid rows, rank 1's, ..., then the padding."""

    parts: Sequence[tuple[Path, StoredArray]]
    shared: _Shared

    @property
    def shape(self) -> tuple[int, ...]:
        shapes = [array.layout.shape for _, array in self.parts]
        return (len(self.shared.steps), sum(shape[1] for shape in shapes), *shapes[0][2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.parts[0][1].layout.dtype)

    def read(self, key: tuple[Key, ...]) -> NDArray[Any]:
        wanted = positions_of(key, self.shape)
        fill = float(fill_value(str(self.dtype)))
        out = np.full([len(wanted[0]), self.shape[1], *map(len, wanted[2:])], fill, self.dtype)
        ends = np.zeros(len(wanted[0]), np.int64)
        for (root, array), records, valid in zip(
            self.parts, self.shared.records, self.shared.valid, strict=True
        ):
            part = read_array(root, array, (records[wanted[0]], slice(None), *wanted[2:]))
            rows = np.clip(valid[wanted[0]], 0, part.shape[1])
            for at, (end, count) in enumerate(zip(ends, rows, strict=True)):
                out[at, end : end + count] = part[at, :count]
            ends += rows
        return without_integer_axes(out[:, wanted[1]], key)


class JoinedBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """What `xarray.open_datatree` opens the snapshots of all ranks with."""

    def open_datatree(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.DataTree:
        """Return the tree of the run; values stay on the disk."""
        snapshots: Sequence[Snapshot] = filename_or_obj
        groups = {
            path: node.to_dataset(inherit=False)
            for path, node in SnapshotBackend().open_datatree(snapshots[0]).subtree_with_keys
        }
        root = groups["."]
        committed = dict(root.attrs["committed"])
        for stream, attrs in snapshots[0].groups.items():
            if attrs.get("kind") == "live" and stream in committed:
                shared = _shared(snapshots, stream)
                committed[stream] = len(shared.steps)
                groups |= _stream(groups, stream, snapshots, shared)
        groups["."] = root.assign_attrs(committed=committed, ranks=len(snapshots))
        return xr.DataTree.from_dict(
            {f"/{'' if path == '.' else path}": data for path, data in groups.items()}
        )


def _shared(snapshots: Sequence[Snapshot], stream: str) -> _Shared:
    every = [read_steps(snapshot, stream) for snapshot in snapshots]
    steps = reduce(np.intersect1d, every)
    records = tuple(np.searchsorted(own, steps) for own in every)
    valid = tuple(
        read_array(s.path, s.arrays[f"{stream}/rows_valid"], (at,)).astype(np.int64)
        for s, at in zip(snapshots, records, strict=True)
    )
    return _Shared(steps, records, valid)


def _check_alike(path: str, snapshots: Sequence[Snapshot]) -> None:
    """Refuse an array that is not the same on all ranks but for its samples."""
    layouts = [snapshot.arrays[path].layout for snapshot in snapshots]
    for snapshot, own in zip(snapshots, layouts, strict=True):
        first = layouts[0]
        if own.dims[:2] != ("step", "sample"):
            raise DamagedError(
                f"{path} of {snapshot.path} has dimensions {own.dims}, not (step, sample, ...)"
            )
        if (own.dims, own.shape[2:], own.dtype) != (first.dims, first.shape[2:], first.dtype):
            raise DamagedError(
                f"{path} is {own.dtype} {own.shape} in {snapshot.path} and {first.dtype} {first.shape} in "
                f"{snapshots[0].path}: other models were recorded; open each by its name"
            )


def _stream(
    groups: dict[str, xr.Dataset], stream: str, snapshots: Sequence[Snapshot], shared: _Shared
) -> dict[str, xr.Dataset]:
    """Return the groups of a stream, joined; a signal that some rank lacks is left out."""
    found: dict[str, dict[str, xr.Variable]] = {
        path: {} for path in groups if path == stream or path.startswith(f"{stream}/")
    }
    clock = groups[stream].variables
    for name in COORDINATES:
        found[stream][name] = xr.Variable(("step",), clock[name].values[shared.records[0]], clock[name].attrs)
    found[stream]["rows_valid"].values = sum(shared.valid)
    apart = {p.rpartition("/")[0] for s in snapshots for p in s.arrays if p.endswith(f"/{ROWS}")}
    own = {home: shared.of_layer(home, snapshots) for home in apart if home in found and home != stream}
    for home, layer in own.items():
        told = sum(layer.valid).astype(np.float64)  # type: ignore[union-attr]
        found[home][ROWS] = xr.Variable(("step",), told, {"signal": ROWS})
    for path, array in snapshots[0].arrays.items():
        home, _, name = path.rpartition("/")
        here = home in found and home != stream and name != ROWS
        if not here or not all(path in s.arrays for s in snapshots):
            continue
        _check_alike(path, snapshots)
        joined = _JoinedArray([(s.path, s.arrays[path]) for s in snapshots], own.get(home, shared))
        found[home][name] = lazy_variable(joined, array, (array.layout.chunk[0], *joined.shape[1:]))
    # Each rank's rows are of the mean loss over its own batch.
    reduction = {stream: {"loss_reduction": "as trained on each rank"}}
    return {
        path: xr.Dataset(variables, attrs={**groups[path].attrs, **reduction.get(path, {})}).set_coords(
            [name for name in COORDINATES if name in variables]
        )
        for path, variables in found.items()
    }
