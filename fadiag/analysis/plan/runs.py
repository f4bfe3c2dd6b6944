"""The runs to analyze, as the analysis sees them: labelled streams of layers, still on disk."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.view import Layer
from fadiag.analysis.plan.given_meta import Entries, GivenMeta, entries_by_path
from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store import ROW_COUNT_SIGNAL, Unfolding, open_run, rows_of_layer

__all__ = ["Run", "Stream", "open_runs"]

#: What every stream has beside its step.
_CLOCK = ("wall_time", "epoch", "rows_valid")


@dataclass(frozen=True)
class Stream:
    """One stream of one run: its steps, and the lazy arrays of each layer."""

    name: str
    kind: str
    attrs: Mapping[str, Any]
    steps: NDArray[np.int64]
    rows_valid: NDArray[np.int64] | None
    layers: Mapping[str, Mapping[str, xr.DataArray]]
    layer_attrs: Mapping[str, Mapping[str, Any]]
    scalars: Mapping[str, xr.DataArray]
    own_rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def rows_of(self, layer: str) -> NDArray[np.int64] | None:
        """Return how many samples of each record a layer saw: as it tells itself, else as the stream does."""
        return self.own_rows.get(layer, self.rows_valid)


@dataclass(frozen=True)
class Run:
    """One opened run under its label."""

    label: str
    path: Path | None
    run_id: str
    generation: int
    meta: Mapping[str, str | int | float | bool]
    streams: Mapping[str, Stream]
    static: Mapping[str, Mapping[str, xr.DataArray]]

    def layer(self, stream: Stream, name: str, unfolding: Unfolding, k: int | None) -> Layer:
        """Describe a layer; the network's classes are the outputs of its last one, recorded or not."""
        last = max(stream.layer_attrs.values(), key=lambda attrs: int(attrs.get("order", 0)))
        classes = int(last.get("classes", 0)) or int(last.get("out_features", 0)) or 2
        attrs = stream.layer_attrs[name]
        return Layer(
            name=name,
            order=int(attrs.get("order", 0)),
            feedback_kind=str(attrs.get("feedback_kind", "")),
            classes=classes,
            k=k if k is not None else max(1, classes - 1),
            unfolding=unfolding,
        )


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attrs.items()}


def _stream(name: str, node: xr.DataTree) -> Stream:
    dataset = node.to_dataset()
    nodes = {str(child.attrs.get("name", key)): child for key, child in node.children.items()}
    ordered = sorted(nodes, key=lambda n: int(nodes[n].attrs.get("order", 0)))
    rows = dataset.variables.get("rows_valid")
    valid = None if rows is None else np.asarray(rows.values, np.int64)
    layers = {
        n: {str(k): v for k, v in nodes[n].to_dataset(inherit=False).data_vars.items()} for n in ordered
    }
    own = {n: arrays.pop(ROW_COUNT_SIGNAL) for n, arrays in layers.items() if ROW_COUNT_SIGNAL in arrays}
    return Stream(
        name=name,
        kind=str(node.attrs.get("kind", name)),
        attrs=_plain(node.attrs),
        steps=np.asarray(dataset["step"].values, np.int64)
        if "step" in dataset.variables
        else np.empty(0, np.int64),
        rows_valid=valid,
        layers=layers,
        layer_attrs={n: _plain(nodes[n].attrs) for n in ordered},
        scalars={str(k): v for k, v in dataset.data_vars.items() if v.dims == ("step",) and k not in _CLOCK},
        own_rows={} if valid is None else {n: rows_of_layer(array.values, valid) for n, array in own.items()},
    )


def _static(node: xr.DataTree | None) -> dict[str, dict[str, xr.DataArray]]:
    if node is None:
        return {}
    return {
        str(child.attrs.get("name", key)): {
            str(k): v for k, v in child.to_dataset(inherit=False).data_vars.items()
        }
        for key, child in node.children.items()
    }


def _meta(attrs: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    manifest = attrs.get("manifest", attrs)
    meta = manifest.get("meta", {}) if isinstance(manifest, Mapping) else {}
    return {k: v for k, v in meta.items() if isinstance(v, (str, int, float, bool))}


def _label(meta: Mapping[str, Any], stem: str) -> str:
    if "condition" in meta and "seed" in meta:
        return f"{meta['condition']}-seed{meta['seed']}"
    return stem


def _open(item: str | os.PathLike[str] | xr.DataTree, position: int, given: Mapping[Path, Entries]) -> Run:
    if isinstance(item, xr.DataTree):
        tree, path, stem = item, None, item.name or f"run{position}"
    else:
        path = absolute_path(item)  # a worker elsewhere has another current directory
        tree, stem = open_run(path), path.name.removesuffix(".zarr")
    meta = _meta(_plain(tree.attrs)) | (given.get(path.resolve(), {}) if path else {})
    streams = {name: _stream(name, node) for name, node in tree.children.items() if name != "static"}
    run = Run(
        label=_label(meta, stem),
        path=path,
        run_id=str(tree.attrs.get("run_id", "")),
        generation=int(tree.attrs.get("generation", 0)),
        meta=meta,
        streams=streams,
        static=_static(tree.children.get("static")),
    )
    if not any(len(stream.steps) for stream in streams.values()):
        raise StoreError(f"run {path or run.label} is empty: no step was committed to any stream")
    return run


def _refuse_twice(runs: Iterable[Run]) -> None:
    """Refuse a recording that is given twice, by its path or as a copy: it is no second run."""
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        first = found.setdefault((run.run_id, run.generation), run)
        if run.run_id and first is not run:
            raise InputError(
                f"{first.path or first.label} and {run.path or run.label} are one recording (run id "
                f"{run.run_id}, generation {run.generation}), which is one run however often it is copied; "
                "name it once"
            )


def open_runs(runs: Any, meta: GivenMeta | None = None) -> list[Run]:
    """Open runs (paths or trees from `open_run`) and give each a label of its own.

    Entries of `meta`, by path, go before those that the run recorded. Equal labels are told apart by ``#2``,
    ``#3``, ... in the order given.

    Raises
    ------
    InputError
        There is no run, something that is neither a path nor a tree, one recording twice, or `meta` of a path
        that is none of the runs.
    StoreError
        A path that is no store, or a run without a single committed step.
    """
    items: Iterable[Any] = [runs] if isinstance(runs, (str, os.PathLike, xr.DataTree)) else list(runs)
    given = entries_by_path(meta or {}, items)
    opened = []
    for position, item in enumerate(items):
        if not isinstance(item, (str, os.PathLike, xr.DataTree)):
            raise InputError(
                f"run {position} is a {type(item).__name__}; give a path or what open_run returns"
            )
        opened.append(_open(item, position, given))
    if not opened:
        raise InputError("no runs given; name at least one recorded store")
    _refuse_twice(opened)
    seen: Counter[str] = Counter()
    taken = {run.label for run in opened}
    labelled = []
    for run in opened:
        seen[run.label] += 1
        label = run.label
        if seen[label] > 1:
            number = seen[label]
            while f"{label}#{number}" in taken:
                number += 1
            label = f"{label}#{number}"
            taken.add(label)
        labelled.append(Run(**{**run.__dict__, "label": label}))
    return labelled
