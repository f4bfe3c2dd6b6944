"""Save results as zarr or netCDF, or as a long table in CSV or Parquet, and load them."""

import importlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import ZarrUserWarning

from fadiag.errors import DamagedError, InputError, NotAStoreError, SchemaError
from fadiag.paths import absolute_path
from fadiag.results.variables import SPECTRUM_STEP

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["READABLE", "RESULTS_VERSION", "check_output", "load_results", "require_results", "save_results"]
__all__ += ["to_pandas"]

#: Version of the layout of the results. Other versions raise an error. 2: `condition`, American spelling.
#: 3: the gate null.
RESULTS_VERSION = 3
#: Suffixes of results that can be loaded -> the engine with which xarray reads them.
READABLE = {".zarr": "zarr", ".nc": "netcdf4"}
_SUFFIXES = (*READABLE, ".csv", ".parquet")
#: Columns of the long table.
_COLUMNS = ["stream", "run", "layer", "step", "variable", "value"]
#: Suffix -> the module that writes it, and the extra that installs the module.
_NEEDS = {".nc": ("netCDF4", "netcdf"), ".parquet": ("pyarrow", "parquet")}


def check_output(path: str | os.PathLike[str]) -> Path:
    """Raise InputError, before any work is done, for a path where results cannot or must not be written."""
    path = absolute_path(path)
    if path.suffix not in _SUFFIXES:
        raise InputError(f"results cannot be written to {path}: its name must end in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"results cannot be written to {path}: there is no directory {path.parent}")
    _require(path)
    if path.exists() and not _is_results(path):
        raise InputError(f"{path} exists and holds no results (a recorded run?); choose another name")
    try:
        # Try it: permissions do not show what a read-only or a virtual file system refuses.
        _work_beside(path).rmdir()
    except OSError as cause:
        raise InputError(
            f"results cannot be written to {path}: {path.parent} takes no new files ({cause.strerror})"
        ) from None
    return path


def _work_beside(path: Path) -> Path:
    """Create the temporary directory in which results are written until they are complete."""
    return Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))


def _require(path: Path) -> None:
    """Raise InputError if the library for a suffix is not installed."""
    module, extra = _NEEDS.get(path.suffix, ("", ""))
    if not module:
        return
    try:
        importlib.import_module(module)
    except ImportError:
        raise InputError(f"{path.name} needs {module}: pip install 'fadiag[{extra}]'") from None


def _is_results(path: Path) -> bool:
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8") as file:
                return file.readline(100).strip().split(",") == _COLUMNS
        if path.suffix == ".parquet":
            parquet = importlib.import_module("pyarrow.parquet")
            return list(parquet.read_schema(path).names) == _COLUMNS
        return "fadiag_results" in _attributes(path)
    except Exception:  # the path may hold anything; it is not results
        return False


def _attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of the root of results, without any array."""
    if path.suffix == ".nc" and path.is_file():
        with importlib.import_module("netCDF4").Dataset(path) as file:
            return {name: file.getncattr(name) for name in file.ncattrs()}
    return dict(zarr.open_group(path, mode="r").attrs)


def save_results(results: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write results to ``.zarr``, ``.nc``, ``.csv`` or ``.parquet``; replace old ones when complete.

    ``.zarr`` and ``.nc`` (extra ``netcdf``) hold the full results and can be loaded. ``.csv`` and
    ``.parquet`` (extra ``parquet``) hold the long table of `to_pandas`.

    Raises
    ------
    InputError
        Another suffix or one whose extra is not installed, a directory that does not exist or cannot be
        written to, or a path that holds something other than results.

    Examples
    --------
    >>> log = xr.Dataset({"loss": (("run", "step"), [[0.5]])}, {"run": ["fa-seed0"], "step": [9]})
    >>> path = save_results(xr.DataTree.from_dict({"/log": log}), tempfile.mkdtemp() + "/results.csv")
    >>> print(path.read_text().strip())
    stream,run,layer,step,variable,value
    log,fa-seed0,,9,loss,0.5
    """
    path = check_output(path)
    work = _work_beside(path)
    fresh, old = work / path.name, work / "old"
    try:
        if path.suffix == ".zarr":
            with warnings.catch_warnings():
                # zarr warns that consolidated metadata is not in the standard, but it opens faster.
                warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
                results.to_zarr(fresh, consolidated=True, encoding=_checked(results, path.suffix))
        elif path.suffix == ".nc":
            results.to_netcdf(fresh, engine="netcdf4", encoding=_checked(results, path.suffix))
        elif path.suffix == ".csv":
            to_pandas(results).to_csv(fresh, index=False)
        else:
            to_pandas(results).to_parquet(fresh, index=False)
        if path.is_dir():
            path.replace(old)  # a directory cannot be replaced in one call
        fresh.replace(path)
    finally:
        if old.exists() and not path.exists():
            old.replace(path)  # if this also fails, nothing is removed
        shutil.rmtree(work, ignore_errors=True)
    return path


def _checked(results: xr.DataTree, suffix: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the encoding that gives each array a checksum, so that damage is detected."""
    in_zarr, in_netcdf = {"compressors": (ZstdCodec(level=0, checksum=True),)}, {"fletcher32": True}
    encoding: dict[str, dict[str, dict[str, Any]]] = {}
    for node in results.subtree:
        encoding[node.path] = {
            str(name): in_zarr if suffix == ".zarr" else in_netcdf
            for name, variable in node.to_dataset(inherit=False).variables.items()
            # HDF5 cannot filter text of variable length or single values.
            if suffix == ".zarr" or (variable.ndim > 0 and variable.dtype.kind not in "OUT")
        }
    return encoding


def load_results(path: str | os.PathLike[str]) -> xr.DataTree:
    """Read results that were saved as zarr or netCDF.

    Raises
    ------
    NotAStoreError
        The path does not exist, or holds no results.
    DamagedError
        An array cannot be read.
    SchemaError
        The results have a layout that this version does not read, or one that is not a number.
    InputError
        The file is netCDF, and netCDF4 is not installed.

    Examples
    --------
    >>> root = xr.Dataset(attrs={"fadiag_results": RESULTS_VERSION})
    >>> log = xr.Dataset({"loss": (("run", "step"), [[0.5]])}, {"step": [9]})
    >>> results = xr.DataTree.from_dict({"/": root, "/log": log})
    >>> path = save_results(results, tempfile.mkdtemp() + "/results.zarr")
    >>> load_results(path)["log/loss"].item()
    0.5
    """
    path = absolute_path(path)
    if not path.exists():
        raise NotAStoreError(f"no results at {path}: no such file or directory")
    if path.suffix == ".nc":
        _require(path)
    elif not path.is_dir():
        raise NotAStoreError(
            f"{path} is no zarr directory; results to read again are saved as results.zarr or results.nc"
        )
    engine = READABLE.get(path.suffix, "zarr")
    try:
        attrs = _attributes(path)
    except Exception as cause:  # the engines may raise anything
        raise NotAStoreError(f"{path} cannot be opened as {engine}: {cause}") from cause
    _check_layout(path, attrs)
    what = "a coordinate"  # xarray reads coordinates while it opens the file
    try:
        with xr.open_datatree(path, engine=engine) as tree:
            # Load everything: results are small, and damage is found here.
            for node in tree.subtree:
                for name in node.to_dataset(inherit=False).variables:
                    what = f"{node.path}/{name}".lstrip("/")
                    node[str(name)].load()
            return tree
    except Exception as cause:
        raise DamagedError(
            f"{path} is damaged: {what} cannot be read ({cause}); remove it and analyze again"
        ) from cause


def _check_layout(path: Path, attrs: Mapping[str, Any]) -> None:
    if "fadiag_results" not in attrs:
        raise NotAStoreError(
            f"{path} holds no results; a recorded run is analyzed first: fadiag analyze {path} -o NEW.zarr"
        )
    layout = attrs["fadiag_results"]
    try:
        found = int(layout)
    except (TypeError, ValueError):
        raise SchemaError(
            f"{path} has results of layout {layout!r}, which is no number; remove it and analyze again"
        ) from None
    if found != RESULTS_VERSION:
        way_out = "update fadiag" if found > RESULTS_VERSION else "remove it and analyze again"
        raise SchemaError(
            f"{path} has results of layout {found}, this version reads layout {RESULTS_VERSION}; {way_out}"
        )


def require_results(results: Any) -> None:
    """Raise InputError for what is no tree of results, such as the path of one.

    Examples
    --------
    >>> require_results(xr.DataTree())
    """
    if isinstance(results, xr.DataTree):
        return
    if isinstance(results, (str, os.PathLike)):
        path = os.fspath(results)
        raise InputError(f"{path!r} is a path, not results; load them: fadiag.results.load_results({path!r})")
    raise InputError(
        f"a {type(results).__name__} is no results; give what fadiag.analyze or load_results returns"
    )


def to_pandas(results: xr.DataTree) -> "pd.DataFrame":
    """Return a long table: stream, run, layer, step, variable, value; absent values are left out.

    Examples
    --------
    >>> log = xr.Dataset({"loss": (("run", "step"), [[0.5]])}, {"run": ["fa-seed0"], "step": [9]})
    >>> print(to_pandas(xr.DataTree.from_dict({"/log": log})).to_csv(index=False).strip())
    stream,run,layer,step,variable,value
    log,fa-seed0,,9,loss,0.5
    """
    import pandas as pd

    parts = []
    for node in results.children.values():
        dataset = node.to_dataset()
        for name, variable in dataset.data_vars.items():
            values = np.asarray(variable.values, np.float64)
            where = np.nonzero(~np.isnan(values))
            at = dict(zip(variable.dims, where, strict=True))
            layer = dataset["layer"].values[at["layer"]] if "layer" in at else ""
            step = SPECTRUM_STEP if SPECTRUM_STEP in at else "step"
            # A spectrum has a variable for each place: error_spectrum_raw[1] is the largest value.
            places = [dataset[d].values[i] for d, i in at.items() if d not in ("run", "layer", step)]
            names = [f"{name}[{place}]" for place in places[0]] if places else str(name)
            parts.append(
                pd.DataFrame(
                    {
                        "stream": node.name,
                        "run": dataset["run"].values[at["run"]],
                        "layer": layer,
                        "step": dataset[step].values[at[step]],
                        "variable": names,
                        "value": values[where],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_COLUMNS)
