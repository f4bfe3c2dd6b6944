"""Write a run as one netCDF-4 file, for R, Julia and MATLAB."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fadiag.errors import StoreError
from fadiag.paths import absolute_path
from fadiag.store.names import JSON
from fadiag.store.read.chunks import read_array, read_steps
from fadiag.store.read.snapshot import Snapshot, StoredArray, read_snapshot

if TYPE_CHECKING:
    import netCDF4

__all__ = ["export_netcdf"]


def export_netcdf(path: str | os.PathLike[str], dest: str | os.PathLike[str]) -> None:
    """Write a run as netCDF-4 with the same groups, dimensions and attributes.

    One chunk file is held in memory at a time. What netCDF has no type for is written as JSON text
    (dictionaries, lists of mixed types, None); booleans become 0 and 1, float16 becomes float32. A layer's
    key that begins with a sign, as ``(root)`` and ``%5Ffc``, gets a ``_`` before it, since netCDF wants a
    letter or a digit there; its true name stands in its attribute ``name``.

    Parameters
    ----------
    path : path
        A store, live, killed, complete or sealed.
    dest : path
        The file to write; it must not exist.

    Raises
    ------
    StoreError
        `dest` exists, its folder cannot be written, or netCDF4 (the extra ``netcdf``) is not installed.
    DamagedError
        As `open_run`.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> from fadiag.store import RunWriter
    >>> folder = tempfile.mkdtemp()
    >>> with RunWriter(f"{folder}/run.zarr", manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     writer.append("log", 0, {}, extra={"loss": 1.5})
    >>> export_netcdf(f"{folder}/run.zarr", f"{folder}/run.nc")
    >>> xr.load_datatree(f"{folder}/run.nc", engine="netcdf4")["log/loss"].item()
    1.5
    """
    try:
        import netCDF4
    except ImportError:
        raise StoreError("netCDF export needs netCDF4: pip install 'fadiag[netcdf]'") from None
    target = absolute_path(dest)
    if target.exists():
        raise StoreError(f"{target} exists; take another path")
    snapshot = read_snapshot(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with netCDF4.Dataset(part, "w", format="NETCDF4") as out:
            _write(out, snapshot)
        part.replace(target)
    except (OSError, RuntimeError) as error:  # netCDF4 has a RuntimeError for a full disk
        raise StoreError(
            f"{target} cannot be written: {error}; is there room on the disk, and is its folder open to you?"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write(out: "netCDF4.Dataset", snapshot: Snapshot) -> None:
    out.setncatts(_texts(msgspec.to_builtins(snapshot.attributes)))
    for group, attrs in snapshot.groups.items():
        out.createGroup(_netcdf_path(group)).setncatts(_texts(attrs))
    for stream in snapshot.attributes.committed:
        out[stream].createDimension("step", len(read_steps(snapshot, stream)))
    for array in snapshot.arrays.values():
        _copy(out, snapshot.path, array)


def _copy(out: "netCDF4.Dataset", source: Path, array: StoredArray) -> None:
    layout = array.layout
    group, _, name = _netcdf_path(array.path).rpartition("/")
    for dim, length in zip(layout.dims, layout.shape, strict=True):
        if dim != "step" and dim not in out[group].dimensions:
            out[group].createDimension(dim, length)
    dtype = {"bool": "uint8", "float16": "float32"}.get(layout.dtype, layout.dtype)
    copy = out[group].createVariable(name, np.dtype(dtype), layout.dims)
    copy.setncatts(_texts(array.attrs))
    if not layout.stepped:
        copy[...] = read_array(source, array).astype(dtype, copy=False)
        return
    size = max(1, min(layout.chunk[0], 1024))
    for start in range(0, layout.shape[0], size):
        rows = slice(start, min(start + size, layout.shape[0]))
        copy[rows] = read_array(source, array, (rows,)).astype(dtype, copy=False)


def _netcdf_path(path: str) -> str:
    """Return a path whose names begin as netCDF's must; no key of a store begins with ``_`` itself."""
    return "/".join(name if name[0].isalnum() else f"_{name}" for name in path.split("/"))


def _texts(attrs: Mapping[str, JSON]) -> dict[str, str | int | float]:
    plain: dict[str, str | int | float] = {}
    for key, value in attrs.items():
        if isinstance(value, bool):
            plain[key] = int(value)
        else:
            plain[key] = value if isinstance(value, (str, int, float)) else json.dumps(value)
    return plain
