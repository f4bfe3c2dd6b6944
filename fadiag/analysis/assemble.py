"""Assembly combines the values of all measured blocks into labelled results."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.attributes import companion_of, variable_attributes
from fadiag.analysis.meta_coordinates import column, run_coordinates, warn_of_clashes
from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.null_attributes import null_attributes, why_without_draws
from fadiag.analysis.plan.block import Measured
from fadiag.analysis.plan.rows import put_rows, rows_kept, widened
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.tasks import Options, Task
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.analysis.stream_provenance import error_checks, stream_coordinates
from fadiag.results.error_check import ERROR_CHECK
from fadiag.results.io import RESULTS_VERSION
from fadiag.results.layer_order import merge_orders
from fadiag.results.left_out import LeftOut, left_out, merged, to_attribute
from fadiag.results.nan_reasons import LOG_REASON, nan_reason
from fadiag.results.null_values import AT_CEILING
from fadiag.results.provenance import joined, recordings
from fadiag.results.recorded import to_recorded_attribute
from fadiag.results.variables import SPECTRUM_STEP

__all__ = ["Assembly"]

_CHECK_ATTRS = {"long_name": "result of the check of error_bp: whether it is the derivative of the loss"}


def _versions() -> str:
    found = []
    for name in ("fadiag", "numpy", "scipy", "xarray", "zarr"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # a working tree that was never installed
            continue
    return ", ".join(found)


def _concerns(record: LeftOut, metric: Metric) -> bool:
    """Return whether a record explains why a metric lacks values."""
    read = {ref.signal for ref in metric.refs} | set(metric.null_signals)
    return not record.name or record.metric.removesuffix("_null") == metric.name or record.signal in read


class Assembly:
    """The growing results: one array per variable, allocated when its first value arrives."""

    def __init__(
        self, runs: Sequence[Run], metrics: Sequence[Metric], options: Options, unmeasured: Unmeasured
    ) -> None:
        self._runs = runs
        self._unmeasured = unmeasured
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
        self._scalars = {
            (run.label, stream.name): self._scalars_of(run, stream)
            for run in runs
            for stream in run.streams.values()
        }
        warn_of_clashes(runs, set(self._metrics))

    def _scalars_of(self, run: Run, stream: Stream) -> dict[str, NDArray[Any]]:
        found = {}
        for name, array in stream.scalars.items():
            with self._unmeasured.catching(LeftOut(run.label, "", stream.name, signal=name)):
                found[name] = array.values
        return found

    @property
    def left_out(self) -> list[LeftOut]:
        """The records of everything left out so far, one per metric or signal of a layer."""
        return merged(self._unmeasured.records)

    def lacks(self, metric: str) -> bool:
        """Return whether a metric has no value in any run."""
        return not any(metric in values for values in self._values.values())

    def put(self, task: Task, measured: Measured) -> None:
        """Store the values of one block."""
        run, layer = self._position[task.run.label], self._layers[task.stream].index(task.layer)
        for name, values in measured.values.items():
            at = self._steps_of(task.stream, name)
            kept = np.isin(task.block.steps, at)
            target = self._array(self._values[task.stream], task.stream, name, values.shape[1:])
            place = np.searchsorted(at, task.block.steps[kept])
            put_rows(target[run, layer], place, values[kept])
        self._unmeasured.records += measured.left_out

    def adopt(self, previous: xr.DataTree) -> None:
        """Copy values of the same recordings and definitions from earlier results."""
        if any(previous.attrs.get(key) != value for key, value in self._asked().items()):
            return
        labels = {run.label for run in self._runs}
        # A metric that has a value is not measured again, and neither is its null.
        self._unmeasured.records += [
            record
            for record in left_out(previous)
            if record.metric.endswith("_null") and record.run in labels
        ]
        for name, arrays in self._values.items():
            if name not in previous.children:
                continue
            old = previous[name].to_dataset()
            layers = (
                {label: i for i, label in enumerate(old["layer"].values)} if "layer" in old.coords else {}
            )
            shared = [(i, layers[label]) for i, label in enumerate(self._layers[name]) if label in layers]
            for position, source in self._same_recordings(old):
                for key in map(str, old.data_vars):
                    metric, _ = companion_of(key, self._metrics)
                    if metric is None or old[key].attrs.get("definition_version") != metric.version:
                        continue
                    values, rest = old[key].values, old[key].shape[3:]
                    target = self._array(arrays, name, key, rest)
                    _, new_steps, old_steps = np.intersect1d(
                        self._steps_of(name, key), old[old[key].dims[2]].values, return_indices=True
                    )
                    for new_layer, old_layer in shared:
                        put_rows(target[position, new_layer], new_steps, values[source, old_layer, old_steps])

    def _same_recordings(self, old: xr.Dataset) -> list[tuple[int, int]]:
        where = {recording: i for i, recording in enumerate(recordings(old))}
        keys = [(run.run_id, run.generation) for run in self._runs]
        return [(i, where[key]) for i, key in enumerate(keys) if key[0] and key in where]

    def known(self, run: Run, stream: Stream, layer: str, metric: Metric) -> NDArray[np.bool_]:
        """Return which steps of a layer already have a value; a NaN is measured again."""
        array = self._values[stream.name].get(metric.name)
        if array is None:
            return np.zeros(len(stream.steps), np.bool_)
        at = self._steps_of(stream.name, metric.name)
        kept = np.isin(stream.steps, at)
        row: Values = array[self._position[run.label], self._layers[stream.name].index(layer)]
        having = np.asarray(~np.isnan(row).all(axis=tuple(range(1, row.ndim))))
        found = np.zeros(len(stream.steps), np.bool_)
        found[kept] = having[np.searchsorted(at, stream.steps[kept])]
        return found

    def _steps_of(self, stream: str, variable: str) -> NDArray[np.int64]:
        """Return the steps of a variable: those of its stream, or those at which spectra are kept."""
        metric, _ = companion_of(variable, self._metrics)
        if metric is None or not metric.axis:
            return self._steps[stream]
        kept = [s.steps[rows_kept(s, self._options.spectra_steps)] for s in self._streams[stream]]
        return np.unique(np.concatenate(kept))

    def _array(
        self, arrays: dict[str, Values], stream: str, variable: str, row: tuple[int, ...] = ()
    ) -> Values:
        """Return the array of a variable, with room for rows of a length if its steps have rows."""
        if variable not in arrays:
            steps = len(self._steps_of(stream, variable))
            arrays[variable] = np.full((len(self._runs), len(self._layers[stream]), steps, *row), np.nan)
        arrays[variable] = widened(arrays[variable], row)
        return arrays[variable]

    def _asked(self) -> dict[str, Any]:
        return {"unfolding": self._options.unfolding, "k": self._options.k or "classes - 1"}

    def tree(self) -> xr.DataTree:
        """Return the results so far, as a tree with one group per stream."""
        groups = {f"/{name}": self._group(name) for name in self._streams}
        root = xr.Dataset(
            attrs={
                "fadiag_results": RESULTS_VERSION,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": _versions(),
                **self._asked(),
                **to_attribute(self.left_out),
                **to_recorded_attribute({run.label: run.recorded for run in self._runs}),
            }
        )
        return xr.DataTree.from_dict({"/": root, **groups}, name="results")

    def _group(self, name: str) -> xr.Dataset:
        steps, layers = self._steps[name], self._layers[name]
        of_runs = stream_coordinates([run.streams.get(name) for run in self._runs])
        variables = {key: self._variable(name, key, of_runs) for key in sorted(self._values[name])}
        rows = self._row_coordinates(name, variables)
        variables |= {key: self._logged(name, key) for s in self._streams[name] for key in s.scalars}
        coordinates: dict[str, Any] = {
            "run": ("run", np.array([run.label for run in self._runs], object)),
            "step": ("step", steps, {"long_name": "updates applied to the weights", "units": "1"}),
            **run_coordinates(self._runs),
            "run_id": ("run", np.array([run.run_id for run in self._runs], object)),
            "generation": ("run", np.array([run.generation for run in self._runs], np.int64)),
            **{key: ("run", column(values)) for key, values in of_runs.items()},
            **rows,
        }
        if layers:
            coordinates["layer"] = ("layer", np.array(layers, object))
            checks = error_checks([run.streams.get(name) for run in self._runs], layers)
            if checks.any():
                coordinates[ERROR_CHECK] = (("run", "layer"), checks, _CHECK_ATTRS)
        clash = set(variables) & set(coordinates)
        variables = {key if key not in clash else f"{key}_value": value for key, value in variables.items()}
        kind = joined([s.kind for s in self._streams[name]])
        return xr.Dataset(variables, coordinates, {"kind": kind})

    def _variable(
        self, stream: str, key: str, of_runs: dict[str, list[Any]]
    ) -> tuple[tuple[str, ...], Values, dict[str, Any]]:
        metric, suffix = companion_of(key, self._metrics)
        assert metric is not None  # only variables of chosen metrics are stored
        held = self._values[stream]
        values = held[key]
        if suffix == AT_CEILING:  # only the values at a ceiling are stored
            values = np.where(np.isnan(held[metric.name]), np.nan, np.nan_to_num(values))
        attrs = variable_attributes(
            metric,
            suffix,
            self._runs,
            stream,
            of_runs=of_runs,
            options=self._options,
        )
        without: list[str] = []
        if "null_" in suffix:
            kind = suffix[suffix.index("null_") :]
            attrs |= null_attributes(metric, suffix, held.get(f"{key.removesuffix(kind)}null_draws"))
            without = why_without_draws(held[metric.name], values, left_out="null_left_out" in attrs)
        if np.isnan(values).any():
            lost = any(_concerns(record, metric) for record in self._unmeasured.records)
            absent = self._without_modulator(stream) if "modulator" in metric.signals else []
            attrs["not_a_number"] = nan_reason(metric.undefined, null=without, lost=lost, absent=absent)
        dims = ("run", "layer", SPECTRUM_STEP, metric.axis) if metric.axis else ("run", "layer", "step")
        return dims, values, attrs

    def _without_modulator(self, stream: str) -> list[str]:
        """Return the reasons of the stores for layers without a modulator."""
        having = [run.streams[stream] for run in self._runs if stream in run.streams]
        attrs = [own for found in having for own in found.layer_attrs.values()]
        return list(dict.fromkeys(str(own["no_modulator"]) for own in attrs if "no_modulator" in own))

    def _row_coordinates(self, stream: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the coordinates of variables with rows, and give all of their rows one length."""
        rowed = [key for key in variables if self._metrics.get(key) and self._metrics[key].axis]
        if not rowed:
            return {}
        longest = max(variables[key][1].shape[-1] for key in rowed)
        for key in rowed:
            dims, values, attrs = variables[key]
            variables[key] = (dims, widened(values, (longest,)), attrs)
        words = {"long_name": "place of the singular value, the largest is 1", "units": "1"}
        return {
            SPECTRUM_STEP: (SPECTRUM_STEP, self._steps_of(stream, rowed[0])),
            self._metrics[rowed[0]].axis: (self._metrics[rowed[0]].axis, np.arange(1, longest + 1), words),
        }

    def _logged(self, stream: str, key: str) -> tuple[tuple[str, ...], Values, dict[str, Any]]:
        steps = self._steps[stream]
        array = np.full((len(self._runs), len(steps)), np.nan)
        for i, run in enumerate(self._runs):
            if key in (found := self._scalars.get((run.label, stream), {})):
                array[i, np.searchsorted(steps, run.streams[stream].steps)] = found[key]
        attrs = {"long_name": key.replace("_", " "), "formula": "as recorded", "signals": key}
        if np.isnan(array).any():
            attrs["not_a_number"] = LOG_REASON
        return ("run", "step"), array, attrs
