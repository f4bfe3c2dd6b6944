"""Putting the values of all blocks together into labelled results."""

import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import misfit
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.tasks import Options, Task
from fadiag.analysis.stream_provenance import samples_coordinate, stream_coordinates
from fadiag.errors import CaptureWarning
from fadiag.results.io import RESULTS_VERSION
from fadiag.results.layer_order import merge_orders
from fadiag.results.nan_reasons import LOG_REASON, nan_reason
from fadiag.results.null_values import NULL_WORDS
from fadiag.results.provenance import STREAM_COORDINATES, joined, recordings

__all__ = ["Assembly"]

#: Coordinates that the results have of their own, whatever the runs' meta entries are called.
_OWN = ("run", "layer", "step", "run_id", "generation", *STREAM_COORDINATES)


def _versions() -> str:
    found = []
    for name in ("fadiag", "numpy", "scipy", "xarray", "zarr"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # a working tree that was never installed
            continue
    return ", ".join(found)


def _run_coordinates(runs: Sequence[Run]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return one coordinate along run for every scalar of the runs' meta entries."""
    names = _names_of_meta(runs)
    return {
        name: ("run", _column([run.meta.get(key) for run in runs]))
        for key, name in names.items()
        if name and name not in _OWN
    }


def _names_of_meta(runs: Sequence[Run]) -> dict[str, str]:
    """Return the coordinate of each meta entry: its key, as far as the formats of results take it."""
    names: dict[str, str] = {}
    for key in dict.fromkeys(key for run in runs for key in run.meta):
        name = re.sub(r"\W", "_", key)
        names[key] = "" if not name.strip("_") or name in names.values() else name
    return names


def _column(values: Sequence[str | int | float | bool | None]) -> NDArray[Any]:
    """Return values as an array that keeps them distinct: numbers where one type holds each exactly."""
    known = [v for v in values if v is not None]
    whole = len(known) == len(values)
    if all(isinstance(v, bool) for v in known) and whole:
        return np.array(values, np.bool_)
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known):
        for dtype in (np.int64, np.uint64) if whole and not any(isinstance(v, float) for v in known) else ():
            limits = np.iinfo(dtype)
            if all(limits.min <= int(v) <= limits.max for v in known):
                return np.array(values, dtype)
        if all(map(_fits_float, known)):
            return np.array([np.nan if v is None else v for v in values], np.float64)
    return np.array(["" if v is None else str(v) for v in values], object)


def _fits_float(value: Any) -> bool:
    """Return whether float64 holds a number exactly: beyond 2**53 two whole numbers may share one."""
    try:
        return isinstance(value, float) or int(float(value)) == value
    except OverflowError:
        return False


def _warn_of_clashes(runs: Sequence[Run], measured: set[str]) -> None:
    """Warn of meta entries whose names the results use for something else."""
    logged = {key for run in runs for stream in run.streams.values() for key in stream.scalars}
    for key, name in _names_of_meta(runs).items():
        if not name:
            clash = f"meta's entry '{key}' is not in the results, which have no name for it"
        elif name in _OWN:
            clash = f"meta's entry '{key}' is not in the results, which have a coordinate of that name"
        elif name in logged | measured:
            clash = (
                f"'{key}' is an entry of meta and a logged or measured value, which is called '{name}_value' "
                "in the results"
            )
        elif name != key:
            clash = f"meta's entry '{key}' is called '{name}' in the results"
        else:
            continue
        warnings.warn(f"{clash}; record the entry under another name", CaptureWarning, stacklevel=4)


class Assembly:
    """The results while they grow: one array a variable, allocated when its first value arrives."""

    def __init__(self, runs: Sequence[Run], metrics: Sequence[Metric], options: Options) -> None:
        self._runs = runs
        self._metrics = {metric.name: metric for metric in metrics}
        self._options = options
        self._position = {run.label: i for i, run in enumerate(runs)}
        self._streams: dict[str, list[Stream]] = {}
        for run in runs:
            for name, stream in run.streams.items():
                self._streams.setdefault(name, []).append(stream)
        self._steps = {n: np.unique(np.concatenate([s.steps for s in ss])) for n, ss in self._streams.items()}
        self._layers = {n: merge_orders(list(s.layer_attrs) for s in ss) for n, ss in self._streams.items()}
        self._values: dict[str, dict[str, Values]] = {name: {} for name in self._streams}
        _warn_of_clashes(runs, set(self._metrics))

    def put(self, task: Task, values: Mapping[str, Values]) -> None:
        """Take the values of one block."""
        layers, steps = self._layers[task.stream], self._steps[task.stream]
        run, layer = self._position[task.run.label], layers.index(task.layer)
        where = np.searchsorted(steps, task.block.steps)
        for name, column in values.items():
            self._array(self._values[task.stream], task.stream, name)[run, layer, where] = column

    def adopt(self, previous: xr.DataTree) -> None:
        """Take over what earlier results hold of the same recordings, measured by the same definitions."""
        if any(previous.attrs.get(key) != value for key, value in self._asked().items()):
            return
        for name, arrays in self._values.items():
            if name not in previous.children:
                continue
            old = previous[name].to_dataset()
            layers = (
                {label: i for i, label in enumerate(old["layer"].values)} if "layer" in old.coords else {}
            )
            shared = [(i, layers[label]) for i, label in enumerate(self._layers[name]) if label in layers]
            _, new_steps, old_steps = np.intersect1d(
                self._steps[name], old["step"].values, return_indices=True
            )
            for position, source in self._same_recordings(old):
                for key in map(str, old.data_vars):
                    metric = self._of(key)[0]
                    if metric is None or old[key].attrs.get("definition_version") != metric.version:
                        continue
                    values = old[key].values
                    target = self._array(arrays, name, key)
                    for new_layer, old_layer in shared:
                        target[position, new_layer, new_steps] = values[source, old_layer, old_steps]

    def _same_recordings(self, old: xr.Dataset) -> list[tuple[int, int]]:
        where = {recording: i for i, recording in enumerate(recordings(old))}
        keys = [(run.run_id, run.generation) for run in self._runs]
        return [(i, where[key]) for i, key in enumerate(keys) if key[0] and key in where]

    def known(self, run: Run, stream: Stream, layer: str, metric: Metric) -> NDArray[np.bool_]:
        """Return which steps of a layer already have a value; NaN is measured again."""
        array = self._values[stream.name].get(metric.name)
        if array is None:
            return np.zeros(len(stream.steps), np.bool_)
        where = np.searchsorted(self._steps[stream.name], stream.steps)
        row: Values = array[self._position[run.label], self._layers[stream.name].index(layer), where]
        return ~np.isnan(row)

    def _array(self, arrays: dict[str, Values], stream: str, variable: str) -> Values:
        if variable not in arrays:
            shape = (len(self._runs), len(self._layers[stream]), len(self._steps[stream]))
            arrays[variable] = np.full(shape, np.nan)
        return arrays[variable]

    def _asked(self) -> dict[str, Any]:
        return {"unfolding": self._options.unfolding, "k": self._options.k or "classes - 1"}

    def tree(self) -> xr.DataTree:
        """Return the results, as far as they go, as a tree with a group a stream."""
        groups = {f"/{name}": self._group(name) for name in self._streams}
        root = xr.Dataset(
            attrs={
                "fadiag_results": RESULTS_VERSION,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": _versions(),
                **self._asked(),
            }
        )
        return xr.DataTree.from_dict({"/": root, **groups}, name="results")

    def _group(self, name: str) -> xr.Dataset:
        steps, layers, values = self._steps[name], self._layers[name], self._values[name]
        of_runs = stream_coordinates([run.streams.get(name) for run in self._runs])
        variables: dict[str, Any] = {
            key: (("run", "layer", "step"), values[key], self._attributes(name, key, of_runs))
            for key in sorted(values)
        }
        for key in dict.fromkeys(k for s in self._streams[name] for k in s.scalars):
            array = np.full((len(self._runs), len(steps)), np.nan)
            for run in self._runs:
                if name in run.streams and key in run.streams[name].scalars:
                    stream = run.streams[name]
                    array[self._position[run.label], np.searchsorted(steps, stream.steps)] = stream.scalars[
                        key
                    ].values
            attrs = {"long_name": key.replace("_", " ")}
            if np.isnan(array).any():
                attrs["not_a_number"] = LOG_REASON
            variables[key] = (("run", "step"), array, attrs)
        coordinates: dict[str, Any] = {
            "run": ("run", np.array([run.label for run in self._runs], object)),
            "step": ("step", steps, {"long_name": "updates applied to the weights", "units": "1"}),
            **_run_coordinates(self._runs),
            "run_id": ("run", np.array([run.run_id for run in self._runs], object)),
            "generation": ("run", np.array([run.generation for run in self._runs], np.int64)),
            **{key: ("run", _column(values)) for key, values in of_runs.items()},
        }
        if layers:
            coordinates["layer"] = ("layer", np.array(layers, object))
        clash = set(variables) & set(coordinates)
        variables = {key if key not in clash else f"{key}_value": value for key, value in variables.items()}
        kind = joined([s.kind for s in self._streams[name]])
        return xr.Dataset(variables, coordinates, {"kind": kind})

    def _attributes(self, stream: str, variable: str, of_runs: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        metric, suffix = self._of(variable)
        assert metric is not None  # only variables of chosen metrics are held
        counted = samples_coordinate(self._streams[stream], metric)
        words = metric.long_name
        units = metric.units
        if suffix:
            kind = suffix.removeprefix("gate_")
            null = "gate null" if suffix.startswith("gate_") else "null"
            words = NULL_WORDS.get(kind, f"{kind} of").replace("null", null) + " the " + words
            units = "1" if kind in ("null_p", "null_draws") else units
        attrs: dict[str, Any] = {
            "long_name": words,
            "units": units,
            "formula": metric.formula,
            "source": metric.source,
            "definition_version": metric.version,
            "unfolding": self._options.unfolding,
            "samples": joined(of_runs.get(counted, [])),
            "samples_coordinate": counted,
            "probe_mode": joined(of_runs.get("probe_mode", [])),
            "split": joined(of_runs.get("split", [])),
        }
        if np.isnan(self._values[stream][variable]).any():
            attrs["not_a_number"] = nan_reason(
                metric.undefined, null=bool(suffix), skipped=self._options.skip_invalid
            )
        attrs["null_left_out"] = self._null_left_out(stream, metric)
        if metric.centered is not None:
            attrs["centered"] = int(metric.centered)
        return {key: value for key, value in attrs.items() if value != ""}

    def _null_left_out(self, name: str, metric: Metric) -> str:
        """Return why recorded draws were left out, where they were."""
        asked = self._options.unfolding, self._options.k
        found = {
            why: None
            for run in self._runs
            if (stream := run.streams.get(name)) is not None
            for layer, arrays in stream.layers.items()
            for signal in metric.null_signals
            if (why := misfit(signal, arrays, run.layer(stream, layer, *asked)))
        }
        return "; ".join(found)

    def _of(self, variable: str) -> tuple[Metric | None, str]:
        """Return the chosen metric that a variable belongs to, and the suffix of its null."""
        for name, metric in self._metrics.items():
            suffix = variable.removeprefix(name).removeprefix("_")
            is_null = variable == f"{name}_{suffix}" and suffix.removeprefix("gate_") in NULL_WORDS
            if is_null or variable == name:
                return metric, suffix
        return None, ""
