"""Measure the rank of one recorded signal, or of a plain matrix: ``effective_rank(run["probe/fc1/error"])``.

Short batches of a live stream end in rows of NaN. The stream's ``rows_valid`` holds the number of real rows:
``effective_rank(run["live/fc1/error"].assign_coords(rows_valid=run["live"].rows_valid))``. Without it such a
signal raises an error.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from fadiag import spectra
from fadiag.analysis.metrics.unfold import unfold
from fadiag.errors import InputError
from fadiag.store import UNFOLDINGS, Unfolding

__all__ = ["effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank"]

#: The axis of the rows: of a signal of samples, of a weight, of a transposed weight. A factor has others.
_ROW_AXES = ("sample", "out", "in")


class Tensor(Protocol):
    """The interface of a torch tensor that is used here, without an import of torch."""

    def detach(self) -> Any:
        """Return the tensor without its graph."""


def _check_unfolding(signal: xr.DataArray, unfolding: Unfolding) -> None:
    """Raise InputError for the factor of another unfolding."""
    recorded = str(signal.attrs.get("unfolding", "both"))
    if signal.attrs.get("reduction") == "factor" and recorded not in (unfolding, "both"):
        raise InputError(
            f"{signal.name} is the factor of its {recorded!r} unfolding; give unfolding={recorded!r}"
        )


def _rows_valid(record: xr.DataArray, name: str) -> int | None:
    """Return the number of real samples in a record, from the coordinate ``rows_valid``.

    Without the coordinate, rows of NaN at the end may be the padding of a short batch or a run that diverged.
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
            f"a run that diverged? Say how many are real, as the stream does: {name}(signal.assign_coords("
            "rows_valid=run['live'].rows_valid))"
        )
    return None


def _rank(
    signal: xr.DataArray | ArrayLike | Tensor,
    function: Callable[[NDArray[Any]], NDArray[np.float64]],
    unfolding: Unfolding,
) -> xr.DataArray | float:
    """Measure a labelled signal step by step, or one plain matrix."""
    name = function.__name__
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it is one of {', '.join(map(repr, UNFOLDINGS))}")
    if isinstance(signal, xr.DataArray):
        return _by_step(signal, function, name, unfolding)
    matrix = np.asarray(_as_array(signal))
    if matrix.ndim != 2:
        raise InputError(
            f"{name} takes a labelled signal or one matrix (samples, features), not an array of shape "
            f"{matrix.shape}; reshape it, or use fadiag.spectra.{name} for a stack of matrices"
        )
    return float(function(matrix))


def _as_array(values: Any) -> Any:
    """Return the values of a tensor for numpy, also from a graph, a GPU or bfloat16."""
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def _by_step(
    signal: xr.DataArray,
    function: Callable[[NDArray[Any]], NDArray[np.float64]],
    name: str,
    unfolding: Unfolding,
) -> xr.DataArray:
    _check_unfolding(signal, unfolding)
    stepped = "step" in signal.dims
    source = signal.transpose("step", ...) if stepped else signal.expand_dims("step")
    dims = tuple(str(d) for d in source.dims[1:])
    if not dims or not (dims[0] in _ROW_AXES or dims[0].startswith("factor")):
        raise InputError(
            f"{name} takes a recorded signal with the axes (step, sample, ...), not {signal.dims}; select "
            "one entry of each other axis, or name the axis of the rows 'sample'"
        )
    out = np.empty(source.sizes["step"])
    for i in range(len(out)):
        record = source.isel(step=slice(i, i + 1)).compute()
        rows = _rows_valid(record, name)
        out[i] = np.nan if rows == 0 else function(unfold(record.values, dims, unfolding, rows_valid=rows))[0]
    attrs = {
        "long_name": f"{name.replace('_', ' ')} of {signal.name or 'a signal'}, raw",
        "units": "1",
        "unfolding": unfolding,
    }
    full_name = f"{signal.name}_{name}_raw" if signal.name else f"{name}_raw"
    if not stepped:
        return xr.DataArray(out[0], name=full_name, attrs=attrs)
    coords = {k: v for k, v in signal.coords.items() if v.dims == ("step",)}
    return xr.DataArray(out, coords, ("step",), full_name, attrs)


def effective_rank(
    signal: xr.DataArray | ArrayLike | Tensor, *, unfolding: Unfolding = "samples"
) -> xr.DataArray | float:
    """Measure the effective rank of a signal, exp(-sum p ln p), p = s / sum s, without centering.

    Here s are the singular values of the matrix (samples, features). The value lies in [1, min(shape)]; it is
    0 for a matrix of zeros.

    Parameters
    ----------
    signal : DataArray, array_like or tensor
        A recorded signal with its labels, or one matrix (samples, features).
    unfolding : {"samples", "channels"}
        How a labelled signal of a convolution becomes a matrix.

    Returns
    -------
    DataArray or float
        One value per step for a labelled signal, else one number. Unit 1.

    Raises
    ------
    InputError
        A plain array that is not a single matrix, values that are not finite, or the factor of another
        unfolding.

    References
    ----------
    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_rank(np.diag([2.0, 2.0, 1.0])), 3)
    2.872
    """
    return _rank(signal, spectra.effective_rank, unfolding)


def effective_rank_energy(
    signal: xr.DataArray | ArrayLike | Tensor, *, unfolding: Unfolding = "samples"
) -> xr.DataArray | float:
    """Measure the effective rank of the energy of a signal, exp(-sum p ln p) with p = s^2 / sum s^2.

    The signal is not centered. Parameters, returns and errors are those of `effective_rank`. For the source
    see `fadiag.spectra.effective_rank_energy`.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_rank_energy(np.diag([2.0, 2.0, 1.0])), 3)
    2.625
    """
    return _rank(signal, spectra.effective_rank_energy, unfolding)


def participation_ratio(
    signal: xr.DataArray | ArrayLike | Tensor, *, unfolding: Unfolding = "samples"
) -> xr.DataArray | float:
    """Measure the participation ratio of a signal, (sum s^2)^2 / sum s^4.

    The signal is not centered. Parameters, returns and errors are those of `effective_rank`. For the source
    see `fadiag.spectra.participation_ratio`.

    Examples
    --------
    >>> import numpy as np
    >>> round(participation_ratio(np.diag([2.0, 2.0, 1.0])), 3)
    2.455
    """
    return _rank(signal, spectra.participation_ratio, unfolding)


def stable_rank(
    signal: xr.DataArray | ArrayLike | Tensor, *, unfolding: Unfolding = "samples"
) -> xr.DataArray | float:
    """Measure the stable rank of a signal, sum s^2 / max s^2.

    The signal is not centered. Parameters, returns and errors are those of `effective_rank`. For the source
    see `fadiag.spectra.stable_rank`.

    Examples
    --------
    >>> import numpy as np
    >>> round(stable_rank(np.diag([2.0, 2.0, 1.0])), 3)
    2.25
    """
    return _rank(signal, spectra.stable_rank, unfolding)
