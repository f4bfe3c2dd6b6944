"""Ranks of one recorded signal as labelled arrays: ``effective_rank(run["probe/fc1/error"])``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.matrix import Unfolding, unfold
from fadiag.errors import InputError

__all__ = ["effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank"]


def _unpadded(slab: NDArray[Any]) -> int:
    """Return the number of rows before the NaN that a short batch is filled up with."""
    rows = slab.reshape(len(slab), -1)
    real = np.flatnonzero(~np.isnan(rows).all(axis=1))
    return int(real[-1]) + 1 if real.size else len(slab)


def _by_step(
    signal: xr.DataArray,
    function: Callable[[NDArray[Any]], NDArray[np.float64]],
    name: str,
    unfolding: Unfolding,
) -> xr.DataArray:
    if not isinstance(signal, xr.DataArray):
        raise InputError(f"{name} takes a labelled signal; for a plain array use fadiag.spectra.{name}")
    stepped = "step" in signal.dims
    source = signal.transpose("step", ...) if stepped else signal.expand_dims("step")
    dims = tuple(str(d) for d in source.dims[1:])
    out = np.empty(source.sizes["step"])
    for i in range(len(out)):
        values = source.isel(step=slice(i, i + 1)).values
        out[i] = function(unfold(values, dims, unfolding, rows_valid=_unpadded(values[0])))[0]
    attrs = {
        "long_name": f"{name.replace('_', ' ')} of {signal.name}, raw",
        "units": "1",
        "unfolding": unfolding,
    }
    full_name = f"{signal.name}_{name}_raw"
    if not stepped:
        return xr.DataArray(out[0], name=full_name, attrs=attrs)
    coords = {k: v for k, v in signal.coords.items() if v.dims == ("step",)}
    return xr.DataArray(out, coords, ("step",), full_name, attrs)


def effective_rank(signal: xr.DataArray, *, unfolding: Unfolding = "samples") -> xr.DataArray:
    """Effective rank (Roy and Vetterli 2007) of a recorded signal, raw, step by step."""
    return _by_step(signal, spectra.effective_rank, "effective_rank", unfolding)


def effective_rank_energy(signal: xr.DataArray, *, unfolding: Unfolding = "samples") -> xr.DataArray:
    """Effective rank of the energy, exp(-sum p ln p) with p = s^2 / sum s^2, raw, step by step."""
    return _by_step(signal, spectra.effective_rank_energy, "effective_rank_energy", unfolding)


def participation_ratio(signal: xr.DataArray, *, unfolding: Unfolding = "samples") -> xr.DataArray:
    """Participation ratio (sum s^2)^2 / sum s^4 of a recorded signal, raw, step by step."""
    return _by_step(signal, spectra.participation_ratio, "participation_ratio", unfolding)


def stable_rank(signal: xr.DataArray, *, unfolding: Unfolding = "samples") -> xr.DataArray:
    """Stable rank sum s^2 / max s^2 of a recorded signal, raw, step by step."""
    return _by_step(signal, spectra.stable_rank, "stable_rank", unfolding)
