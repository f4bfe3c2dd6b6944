"""Turn a snapshot into an `xarray.DataTree` whose values are read when they are used."""

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

from fadiag.store.names import COORDINATES
from fadiag.store.read.arrays import Key, read_array
from fadiag.store.read.snapshot import Snapshot, StoredArray
from fadiag.store.values import JSON

__all__ = ["SnapshotBackend", "tree_of"]


@dataclass(frozen=True, repr=False)
class _LazyArray(BackendArray):  # type: ignore[misc, unused-ignore]
    """Read an array from the disk when xarray indexes it."""

    root: Path
    array: StoredArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.array.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.array.layout.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        )

    def _read(self, key: tuple[Key, ...]) -> NDArray[Any]:
        return read_array(self.root, self.array, key)


class SnapshotBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """Let `xarray.open_datatree` open a `Snapshot`; dask arrays need this."""

    def open_datatree(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.DataTree:
        """Return the tree of a snapshot."""
        return tree_of(filename_or_obj, cache=False)


def tree_of(snapshot: Snapshot, *, cache: bool) -> xr.DataTree:
    """Return the tree of a snapshot; with `cache`, values stay in memory after the first read.

    `xarray.open_datatree` does the same but builds the whole tree twice.
    """
    groups: dict[str, dict[str, xr.Variable]] = {path: {} for path in ("", *snapshot.groups)}
    for path, array in snapshot.arrays.items():
        group, _, name = path.rpartition("/")
        groups[group][name] = _variable(snapshot.path, array, cache=cache)
    attributes = {"": msgspec.to_builtins(snapshot.attributes), **snapshot.groups}
    return xr.DataTree.from_dict(
        {f"/{path}": _dataset(variables, attributes[path]) for path, variables in groups.items()}
    )


def _variable(root: Path, array: StoredArray, *, cache: bool) -> xr.Variable:
    """Return a lazy variable that prefers reads of whole chunks."""
    dims, chunk = array.layout.dims, array.layout.chunk
    encoding = {"preferred_chunks": dict(zip(dims, chunk, strict=True)), "chunks": chunk}
    lazy: Any = indexing.LazilyIndexedArray(_LazyArray(root, array))
    if cache:
        lazy = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy))  # type: ignore[no-untyped-call, unused-ignore]
    return xr.Variable(dims, lazy, dict(array.attrs), encoding, fastpath=True)


def _dataset(variables: Mapping[str, xr.Variable], attrs: Mapping[str, JSON]) -> xr.Dataset:
    # The attribute "coordinates" is for plain xarray, which also removes it.
    shown = {name: value for name, value in attrs.items() if name != "coordinates"}
    return xr.Dataset(variables, attrs=shown).set_coords([name for name in COORDINATES if name in variables])
