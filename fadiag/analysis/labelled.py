"""Ranks of one recorded signal as labelled arrays: ``effective_rank(run["probe/fc1/error"])``.

Where batches were short, the stream's ``rows_valid`` tells the samples from the NaN after them:
``effective_rank(run["live/fc1/error"].assign_coords(rows_valid=run["live"].rows_valid))``. Without it such a
signal is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.unfold import unfold
from fadiag.errors import InputError
from fadiag.store import Unfolding

__all__ = ["effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank"]


def _check_unfolding(signal: xr.DataArray, unfolding: Unfolding) -> None:
    """Refuse the factor of another unfolding."""
    recorded = str(signal.attrs.get("unfolding", "both"))
    if signal.attrs.get("reduction") == "factor" and recorded not in (unfolding, "both"):
        raise InputError(
            f"{signal.name} is the factor of its {recorded!r} unfolding; give unfolding={recorded!r}"
        )


def _rows_valid(record: xr.DataArray, name: str) -> int | None:
    """Return how many samples of a record are real, as the coordinate ``rows_valid`` tells.

    Without it, rows of NaN at the end may be the padding of a short batch or a run that diverged.
    """
    if record.dims[1] != "sample":
        return None
    if "rows_valid" in record.coords:
        return int(record.coords["rows_valid"].item())
    real = np.flatnonzero(~np.isnan(record.values[0].reshape(record.shape[1], -1)).all(axis=1))
    lacking = record.shape[1] - (int(real[-1]) + 1 if real.size else 0)
    if lacking and real.size:
        at = f" at step {record.coords['step'].item()}" if "step" in record.coords else ""
        raise InputError(
            f"{record.name}{at} is NaN in the last {lacking} of {record.shape[1]} samples: a short batch, or "
            f"a run that diverged? Tell how many are real, as the stream does: {name}(signal.assign_coords("
            "rows_valid=run['live'].rows_valid))"
        )
    return None


def _by_step(
    signal: xr.DataArray,
    function: Callable[[NDArray[Any]], NDArray[np.float64]],
    name: str,
    unfolding: Unfolding,
) -> xr.DataArray:
    if not isinstance(signal, xr.DataArray):
        raise InputError(f"{name} takes a labelled signal; for a plain array use fadiag.spectra.{name}")
    _check_unfolding(signal, unfolding)
    stepped = "step" in signal.dims
    source = signal.transpose("step", ...) if stepped else signal.expand_dims("step")
    dims = tuple(str(d) for d in source.dims[1:])
    out = np.empty(source.sizes["step"])
    for i in range(len(out)):
        record = source.isel(step=slice(i, i + 1)).compute()
        rows = _rows_valid(record, name)
        out[i] = np.nan if rows == 0 else function(unfold(record.values, dims, unfolding, rows_valid=rows))[0]
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
