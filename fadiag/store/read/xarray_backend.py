"""A snapshot as an `xarray.DataTree` whose values are read when they are used."""

from abc import ABC, abstractmethod
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

from fadiag.store.names import COORDINATES, JSON
from fadiag.store.read.chunks import Key, read_array
from fadiag.store.read.snapshot import Snapshot, StoredArray

__all__ = ["LazyArray", "SnapshotBackend", "lazy_variable"]


class LazyArray(BackendArray, ABC):  # type: ignore[misc, unused-ignore]
    """An array as xarray asks for it: each axis by itself."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @abstractmethod
    def read(self, key: tuple[Key, ...]) -> NDArray[Any]:
        """Return a part of the array."""

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)
        )


@dataclass(frozen=True, repr=False)
class _StoredLazily(LazyArray):
    """One array on the disk."""

    root: Path
    array: StoredArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.layout.dtype)

    def read(self, key: tuple[Key, ...]) -> NDArray[Any]:
        return read_array(self.root, self.array, key)


class SnapshotBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """What `xarray.open_datatree` opens a `Snapshot` with."""

    def open_datatree(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.DataTree:
        """Return the tree of a snapshot; values stay on the disk."""
        snapshot: Snapshot = filename_or_obj
        groups: dict[str, dict[str, xr.Variable]] = {path: {} for path in ("", *snapshot.groups)}
        for path, array in snapshot.arrays.items():
            home, _, name = path.rpartition("/")
            lazy = _StoredLazily(snapshot.path, array)
            groups[home][name] = lazy_variable(lazy, array, array.layout.chunk)
        attributes = {"": msgspec.to_builtins(snapshot.attributes), **snapshot.groups}
        return xr.DataTree.from_dict(
            {f"/{path}": _dataset(variables, attributes[path]) for path, variables in groups.items()}
        )


def lazy_variable(array: LazyArray, like: StoredArray, chunk: tuple[int, ...]) -> xr.Variable:
    """Return a variable with the dimensions and attributes of a stored array, read in pieces of a chunk."""
    dims = like.layout.dims
    encoding = {"preferred_chunks": dict(zip(dims, chunk, strict=True)), "chunks": chunk}
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), dict(like.attrs), encoding, fastpath=True)


def _dataset(variables: Mapping[str, xr.Variable], attrs: Mapping[str, JSON]) -> xr.Dataset:
    # The stream's attribute "coordinates" is for plain xarray, which takes it away too.
    told = {name: value for name, value in attrs.items() if name != "coordinates"}
    return xr.Dataset(variables, attrs=told).set_coords([name for name in COORDINATES if name in variables])
