"""Measure how much the leading directions of a signal stay the same from step to step, or layer to layer."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.spectra import spectrum_metrics
from fadiag.analysis.metrics.view import View
from fadiag.analysis.plan.block import views
from fadiag.analysis.plan.requirements import check_asked
from fadiag.analysis.plan.runs import Run, Stream, open_runs
from fadiag.analysis.plan.tasks import Options, plan
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.analysis.stream_provenance import samples_coordinate, stream_coordinates
from fadiag.errors import InputError, MissingSignalError
from fadiag.results.provenance import STREAM_COORDINATES
from fadiag.spectra.validate import as_count
from fadiag.store import Unfolding

__all__ = ["overlap_matrix"]


@dataclass(frozen=True)
class _Basis:
    """The leading right directions (columns, k) of one record."""

    layer: str
    step: int
    directions: NDArray[np.float64]


def overlap_matrix(
    run: str | os.PathLike[str] | xr.DataTree,
    *,
    layer: str | None = None,
    step: int | None = None,
    signal: str = "error",
    k: int | None = None,
    stream: str | None = None,
    unfolding: Unfolding = "samples",
) -> xr.DataArray:
    """Return the overlap of a signal's leading right subspaces between all steps, or between all layers.

    The overlap is |Uᵀ V|_F² / k, see `fadiag.spectra.overlap`. A uniformly drawn subspace has the mean
    k / columns. A record with r < k directions has at most r / k, also with itself.

    Parameters
    ----------
    run : path or DataTree
        A recorded store.
    layer : str, optional
        Compare all steps of this layer.
    step : int, optional
        Compare all layers at this step.
    signal : str
        A recorded signal, such as ``error`` or ``update``.
    k : int, optional
        The dimension of the subspaces; by default the number of classes minus one. It is at most the shorter
        side of the matrix.
    stream : str, optional
        The stream to read; by default the first with the signal.
    unfolding : {"samples", "channels"}
        How the signals of a convolution become matrices.

    Returns
    -------
    DataArray
        With dims (step, other_step) or (layer, other_layer). A record of zeros has no subspace: its overlaps
        are NaN. So are those of layers with other columns or another k. The coordinates ``columns`` and ``k``
        are along the first dimension.

    Raises
    ------
    InputError
        Neither or both of `layer` and `step` are given, there is no such layer, step, stream or signal, or
        a factor has lost the columns.
    MissingSignalError
        The run did not record the signal, or k is not known.
    StoreError
        The path is no readable store.

    Examples
    --------
    >>> values = np.array([[[3.0, 0], [0, 1]], [[0, 1], [3, 0]], [[1, 0], [0, 3]]])
    >>> fc = xr.Dataset({"error": (("step", "sample", "out"), values)}, attrs={"name": "fc", "order": 0})
    >>> probe = xr.Dataset(coords={"step": [0, 10, 20]}, attrs={"kind": "probe"})
    >>> run = xr.DataTree.from_dict({"/probe": probe, "/probe/fc": fc})
    >>> overlap_matrix(run, layer="fc", k=1).values.round(9).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if (layer is None) == (step is None):
        raise InputError("overlap_matrix compares steps or layers; give layer=... or step=...")
    opened = open_runs(run, strict=True)[0]
    metric = spectrum_metrics(signal)[0]  # it reads the same arrays
    check_asked([opened], (metric,), Unmeasured(strict=True))
    home = _stream(opened, metric, stream)
    _check_place(home, layer, step)
    _refuse_columns(home, signal, layer)
    if k is not None:
        k = as_count(k, "k", 1)
    options = Options(unfolding, k, strict=True, spectra_steps="all" if step is None else (step,))
    bases = _bases(opened, home, metric, options, layer)
    if not bases:
        raise MissingSignalError(f"run {opened.label} has no {signal} {_where(layer, step)}")
    place = {"layer": layer} if layer is not None else {"step": step}
    about = {name: opened.meta[name] for name in ("condition", "seed") if name in opened.meta}
    recorded = stream_coordinates([home])
    for name in (samples_coordinate([home], metric), "probe_mode", "split"):
        if recorded.get(name, [None])[0] is not None:
            about[STREAM_COORDINATES[name]] = recorded[name][0]
    return _matrix(bases, signal, {"run": opened.label, "stream": home.name, **place, **about})


def _where(layer: str | None, step: int | None) -> str:
    return f"in layer {layer!r}" if layer is not None else f"at step {step}"


def _stream(run: Run, metric: Metric, stream: str | None) -> Stream:
    held = {
        name: found
        for name, found in run.streams.items()
        if found.kind in metric.kinds and any(metric.signals[0] in arrays for arrays in found.layers.values())
    }
    if stream is not None and stream not in held:
        raise InputError(
            f"run {run.label} has no {metric.signals[0]} in a stream {stream!r}; it is in {', '.join(held)}"
        )
    return held[stream] if stream is not None else next(iter(held.values()))


def _check_place(stream: Stream, layer: str | None, step: int | None) -> None:
    if layer is not None and layer not in stream.layers:
        raise InputError(f"the run has no layer {layer!r}; it has {', '.join(stream.layers)}")
    if step is not None and step not in stream.steps:
        nearest = sorted(stream.steps[np.argsort(abs(stream.steps - step), kind="stable")[:3]].tolist())
        raise InputError(f"step {step} was not recorded; the nearest are {', '.join(map(str, nearest))}")


def _refuse_columns(stream: Stream, signal: str, layer: str | None) -> None:
    """Raise InputError for a factor of the columns: its directions are those of its own record only."""
    for name, arrays in stream.layers.items():
        attrs = arrays[signal].attrs if signal in arrays and layer in (None, name) else {}
        if attrs.get("reduction") == "factor" and attrs.get("factor_side", "rows") == "columns":
            raise InputError(
                f"{signal} of layer {name!r} is a factor of its columns, so its directions are not "
                "comparable with those of another record; record it with reduction='raw'"
            )


def _bases(run: Run, stream: Stream, metric: Metric, options: Options, layer: str | None) -> list[_Basis]:
    """Read the records, and return the bases in the order of the plan: by layer, then by step."""

    def unwanted(_: Run, other: Stream, name: str, __: Metric) -> NDArray[np.bool_]:
        wanted = other.name == stream.name and layer in (None, name)
        return np.full(len(other.steps), not wanted)

    unmeasured = Unmeasured(strict=True)
    found = []
    for task in plan([run], (metric,), options, unwanted, unmeasured):
        for _, view in views(task.block, unmeasured):
            if metric.signals[0] in view.signals:
                found += _of_view(view, metric.signals[0])
    return sorted(found, key=lambda basis: (list(stream.layers).index(basis.layer), basis.step))


def _of_view(view: View, signal: str) -> list[_Basis]:
    if view.layer.k is None:
        raise MissingSignalError(
            "the dimension k of the subspaces is not known: the run states no number of classes and did not "
            "record its last layer; give it, overlap_matrix(k=...)"
        )
    matrix = view.matrix(signal)
    directions = spectra.right_basis(matrix, min(view.layer.k, *matrix.shape[-2:]))
    steps = view.steps.tolist()
    return [_Basis(view.layer.name, step, each) for step, each in zip(steps, directions, strict=True)]


def _matrix(bases: list[_Basis], signal: str, about: dict[str, Any]) -> xr.DataArray:
    count = len(bases)
    values = np.full((count, count), np.nan)
    for i, one in enumerate(bases):
        for j, other in enumerate(bases[: i + 1]):
            comparable = one.directions.shape == other.directions.shape
            if comparable and one.directions.any() and other.directions.any():
                values[i, j] = values[j, i] = spectra.overlap_of_bases(one.directions, other.directions)
    dim = "layer" if "step" in about else "step"
    labels = np.array([getattr(basis, dim) for basis in bases], None if dim == "step" else object)
    columns, k = np.array([basis.directions.shape for basis in bases]).T
    attrs = {
        "long_name": f"overlap of the leading right subspaces of the {signal}",
        "formula": "|U_k^T V_k|_F^2 / k",
        "signals": signal,
        **about,
    }
    coords = {dim: labels, f"other_{dim}": labels, "columns": (dim, columns), "k": (dim, k)}
    return xr.DataArray(values, coords, (dim, f"other_{dim}"), f"{signal}_overlap_matrix", attrs)
