"""Results on disk: zarr as they are, CSV or Parquet as a long table."""

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from zarr.errors import ZarrUserWarning

from fadiag.errors import InputError, NotAStoreError, SchemaError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_output", "load", "save", "to_pandas"]

_READS = 1
_SUFFIXES = (".zarr", ".csv", ".parquet")


def check_output(path: str | os.PathLike[str]) -> Path:
    """Refuse, before any work is done, a path where results cannot or must not be written."""
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise InputError(f"results cannot be written to {path}: its name must end in {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"results cannot be written to {path}: there is no directory {path.parent}")
    if path.is_dir() and not (path.suffix == ".zarr" and _is_results(path)):
        raise InputError(f"{path} exists and holds no results (a recorded run?); choose another name")
    return path


def _is_results(path: Path) -> bool:
    try:
        with xr.open_datatree(path, engine="zarr", consolidated=True) as tree:
            return "fadiag_results" in tree.attrs
    except Exception:  # whatever lies there, it is not results
        return False


def save(results: xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write results to ``.zarr``, ``.csv`` or ``.parquet``; old results stay until the new are whole.

    Raises
    ------
    InputError
        Another suffix, no such directory, or a path that holds something that is no results.
    """
    path = check_output(path)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        fresh = work / path.name
        if path.suffix == ".zarr":
            with warnings.catch_warnings():
                # zarr warns that consolidated metadata is a convention; so it is, and it opens faster.
                warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
                results.to_zarr(fresh, consolidated=True)
        elif path.suffix == ".csv":
            to_pandas(results).to_csv(fresh, index=False)
        else:
            to_pandas(results).to_parquet(fresh, index=False)
        if path.is_dir():
            path.replace(work / "old")  # a directory cannot be replaced in one call
        fresh.replace(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def load(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open results that were saved as zarr.

    Raises
    ------
    NotAStoreError
        There is nothing at the path, or it holds no results.
    SchemaError
        The results have a newer layout than this version reads.
    """
    path = Path(path)
    if not path.exists():
        raise NotAStoreError(f"no results at {path}: no such file or directory")
    if not path.is_dir():
        raise NotAStoreError(f"{path} is no zarr directory; results to read again are saved as results.zarr")
    try:
        tree = xr.open_datatree(path, engine="zarr", consolidated=True)
    except Exception as cause:  # xarray and zarr raise what they like
        raise NotAStoreError(f"{path} cannot be opened as zarr: {cause}") from cause
    if "fadiag_results" not in tree.attrs:
        raise NotAStoreError(
            f"{path} holds no results; a recorded run is analysed first: fadiag analyze {path}"
        )
    found = int(tree.attrs["fadiag_results"])
    if found > _READS:
        raise SchemaError(
            f"{path} has results of layout {found}, this version reads up to {_READS}; update fadiag"
        )
    return tree


def to_pandas(results: xr.DataTree) -> "pd.DataFrame":
    """Return a long table: stream, run, layer, step, variable, value; absent values are left out."""
    import pandas as pd

    parts = []
    for node in results.children.values():
        dataset = node.to_dataset()
        for name, variable in dataset.data_vars.items():
            values = np.asarray(variable.values, np.float64)
            where = np.nonzero(~np.isnan(values))
            at = dict(zip(variable.dims, where, strict=True))
            layer = dataset["layer"].values[at["layer"]] if "layer" in at else ""
            parts.append(
                pd.DataFrame(
                    {
                        "stream": node.name,
                        "run": dataset["run"].values[at["run"]],
                        "layer": layer,
                        "step": dataset["step"].values[at["step"]],
                        "variable": str(name),
                        "value": values[where],
                    }
                )
            )
    columns = ["stream", "run", "layer", "step", "variable", "value"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
