"""Export a run as one netCDF-4 file, for R, Julia and MATLAB."""

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fadiag.errors import StoreError
from fadiag.paths import absolute_path
from fadiag.store.read.metadata import read_snapshot
from fadiag.store.read.open import check_committed
from fadiag.store.read.snapshot import Snapshot
from fadiag.store.values import JSON

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["export_netcdf"]

#: Arrays above this size in bytes are written chunk by chunk if dask is installed.
_LARGE = 64 * 2**20


def export_netcdf(path: str | os.PathLike[str], dest: str | os.PathLike[str]) -> None:
    """Write a run as netCDF-4 with the same groups, dimensions and attributes.

    One array at a time is held in memory; with dask installed, only one chunk of a large array is. netCDF has
    no type for dictionaries, lists and None, so these attributes become JSON text. Booleans become 0 and 1,
    float16 becomes float32.

    A netCDF name must start with a letter or a digit. So the group ``(root)`` becomes ``_(root)``, and
    ``%5Ffc`` becomes ``_%5Ffc``. The attribute ``name`` holds the layer's true name.

    Parameters
    ----------
    path : path
        A store of any status: recording, killed, complete or sealed.
    dest : path
        The file to write; it must not exist.

    Raises
    ------
    StoreError
        The run is empty, `dest` exists, its folder cannot be written, or netCDF4 (extra ``netcdf``) is not
        installed.
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
    if find_spec("netCDF4") is None:
        raise StoreError("netCDF export needs netCDF4: pip install 'fadiag[netcdf]'")
    target = absolute_path(dest)
    if target.exists():
        raise StoreError(f"{target} exists; take another path")
    snapshot = read_snapshot(path)
    check_committed(snapshot)
    tree = _netcdf_tree(snapshot)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        tree.to_netcdf(part, engine="netcdf4")
        part.replace(target)
    except (OSError, RuntimeError) as error:  # netCDF4 raises RuntimeError if the disk is full
        raise StoreError(
            f"{target} cannot be written: {error}; is there room on the disk, and is its folder open to you?"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _netcdf_tree(snapshot: Snapshot) -> "xr.DataTree":
    """Return a run's tree with names, types and attributes that netCDF can hold."""
    import xarray as xr

    from fadiag.store.read.xarray_backend import tree_of

    nodes = tree_of(snapshot, cache=False).subtree
    return xr.DataTree.from_dict(
        {_netcdf_path(node.path): _netcdf_dataset(node.to_dataset(inherit=False)) for node in nodes}
    )


def _netcdf_path(path: str) -> str:
    """Return a path with valid netCDF names; no key of a store begins with ``_``, so names stay unique."""
    return "/".join(name if name[0].isalnum() else f"_{name}" for name in path.split("/") if name)


def _netcdf_dataset(dataset: "xr.Dataset") -> "xr.Dataset":
    dataset.attrs = _netcdf_attrs(dataset.attrs)
    for name, variable in dataset.variables.items():
        variable.attrs = _netcdf_attrs(variable.attrs)
        if variable.dtype == "float16":
            variable.encoding["dtype"] = "float32"
        if variable.nbytes > _LARGE and find_spec("dask") is not None:
            dataset[name] = variable.chunk(variable.encoding["preferred_chunks"])
    return dataset


def _netcdf_attrs(attrs: Mapping[str, JSON]) -> dict[str, str | int | float]:
    plain = {key: int(value) if isinstance(value, bool) else value for key, value in attrs.items()}
    return {key: x if isinstance(x, (str, int, float)) else json.dumps(x) for key, x in plain.items()}
