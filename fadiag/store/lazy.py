"""A snapshot as an `xarray.DataTree` whose values are read when they are used."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from fadiag.store.array_reader import read_array
from fadiag.store.layout import COORDINATES, JSON
from fadiag.store.snapshot import Snapshot, StoredArray

__all__ = ["SnapshotBackend"]


@dataclass(frozen=True, repr=False)
class _LazyArray(BackendArray):  # type: ignore[misc, unused-ignore]
    """One array on the disk, as xarray asks for it."""

    root: Path
    array: StoredArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.layout.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        )

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        return read_array(self.root, self.array, key)


class SnapshotBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """What `xarray.open_datatree` opens a `Snapshot` with."""

    def open_datatree(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.DataTree:
        """Return the tree of a snapshot; values stay on the disk."""
        snapshot: Snapshot = filename_or_obj
        groups: dict[str, dict[str, xr.Variable]] = {path: {} for path in ("", *snapshot.groups)}
        for path, array in snapshot.arrays.items():
            home, _, name = path.rpartition("/")
            groups[home][name] = _variable(snapshot.path, array)
        attributes = {"": msgspec.to_builtins(snapshot.attributes), **snapshot.groups}
        return xr.DataTree.from_dict(
            {f"/{path}": _dataset(variables, attributes[path]) for path, variables in groups.items()}
        )


def _variable(root: Path, array: StoredArray) -> xr.Variable:
    layout = array.layout
    chunks = dict(zip(layout.dims, layout.chunk, strict=True))
    return xr.Variable(
        layout.dims,
        indexing.LazilyIndexedArray(_LazyArray(root, array)),
        dict(array.attrs),
        {"preferred_chunks": chunks, "chunks": layout.chunk},
        fastpath=True,
    )


def _dataset(variables: Mapping[str, xr.Variable], attrs: Mapping[str, JSON]) -> xr.Dataset:
    # The stream's attribute "coordinates" is for plain xarray, which takes it away too.
    told = {name: value for name, value in attrs.items() if name != "coordinates"}
    return xr.Dataset(variables, attrs=told).set_coords([name for name in COORDINATES if name in variables])
