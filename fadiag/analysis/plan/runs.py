"""Open the runs to analyze, as labelled streams of lazy arrays."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fadiag.analysis.metrics.view import Layer
from fadiag.analysis.plan.given_meta import Entries, GivenMeta, entries_by_path
from fadiag.errors import FadiagError, InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.store import ROW_COUNT_SIGNAL, Unfolding, open_run, rows_of_layer, run_info

__all__ = ["Run", "Stream", "open_runs"]

#: Variables of every stream that are not logged scalars.
_CLOCK = ("wall_time", "epoch", "rows_valid")
#: The parts of a manifest that say how a run was made.
_MADE_WITH = ("device", "dtype", "host", "versions", "command", "commit", "config")


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

    @property
    def classes(self) -> tuple[int | None, str]:
        """The number of outputs of the network's last layer, and the source of the number if it is a guess.

        The number is None if the store does not state it and the last layer was not recorded.
        """
        last, attrs = list(self.layer_attrs.items())[-1]
        if stated := int(attrs.get("classes", 0)):
            return stated, ""
        if int(attrs.get("order", 0)) + 1 < int(attrs.get("layers_in_model", 0)):
            return None, ""
        own = int(attrs.get("out_features", 0)) or _outputs(self.layers[last].get("error"))
        return own, f"the outputs of layer '{last}', the last that was recorded"

    def rows_of(self, layer: str) -> NDArray[np.int64] | None:
        """Return how many samples a layer saw in each record, by its own count or else by the stream's."""
        return self.own_rows.get(layer, self.rows_valid)


@dataclass(frozen=True)
class Run:
    """One opened run with its label. If it cannot be measured it has no streams, and ``lost`` says why.

    ``recorded`` is what its store says of the recording: status, versions, device, configuration.
    """

    label: str
    path: Path | None
    run_id: str
    generation: int
    meta: Mapping[str, str | int | float | bool]
    streams: Mapping[str, Stream]
    static: Mapping[str, Mapping[str, xr.DataArray]]
    lost: str = ""
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def layer(self, stream: Stream, name: str, unfolding: Unfolding, k: int | None) -> Layer:
        """Return the description of a layer, with the options of the analysis."""
        classes, _ = stream.classes
        attrs = stream.layer_attrs[name]
        return Layer(
            name=name,
            order=int(attrs.get("order", 0)),
            feedback_kind=str(attrs.get("feedback_kind", "")),
            classes=classes,
            k=k if k is not None else classes and max(1, classes - 1),
            unfolding=unfolding,
        )


def _outputs(error: xr.DataArray | None) -> int | None:
    """Return the number of outputs of a layer from its error: the columns before any factorization."""
    if error is None or error.ndim != 3:  # of step, sample and output
        return None
    if error.attrs.get("reduction") == "factor":
        return error.attrs.get("columns")
    return int(error.shape[-1])


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


def _recorded(attrs: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Return the status of a run, and the parts of its manifest that say how it was made."""
    manifest = attrs.get("manifest")
    held = manifest if isinstance(manifest, Mapping) else {}
    parts = {"status": status, **{key: held.get(key) for key in _MADE_WITH}}
    return {key: value for key, value in parts.items() if value not in (None, "", {})}


def _label(meta: Mapping[str, Any], stem: str) -> str:
    if "condition" in meta and "seed" in meta:
        return f"{meta['condition']}-seed{meta['seed']}"
    return stem


def _open(tree: xr.DataTree, path: Path | None, label: str, meta: Entries) -> Run:
    streams = {name: _stream(name, node) for name, node in tree.children.items() if name != "static"}
    run = Run(
        label=label,
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


def _open_or_lose(
    item: str | os.PathLike[str] | xr.DataTree, position: int, given: Mapping[Path, Entries]
) -> tuple[Run, Exception | None]:
    """Return the run, and None. If it cannot be opened, return a run without streams, and the error."""
    path = (
        None if isinstance(item, xr.DataTree) else absolute_path(item)
    )  # a worker may have another working directory
    stem = path.name.removesuffix(".zarr") if path else getattr(item, "name", None) or f"run{position}"
    meta: Entries = dict(given.get(path.resolve(), {})) if path else {}
    try:
        if isinstance(item, xr.DataTree):
            attrs, status = _plain(item.attrs), str(item.attrs.get("status", ""))
        else:
            info = run_info(item)
            attrs, status = {"manifest": info.manifest}, info.status
        meta = _meta(attrs) | meta  # readable even if the arrays are damaged
        tree = item if isinstance(item, xr.DataTree) else open_run(item)
        return replace(_open(tree, path, _label(meta, stem), meta), recorded=_recorded(attrs, status)), None
    except MemoryError:
        raise
    except Exception as cause:  # a store may be broken in any way
        reason = str(cause) if isinstance(cause, FadiagError) else f"{type(cause).__name__}: {cause}"
        return Run(_label(meta, stem), path, "", 0, meta, {}, {}, lost=reason), cause


def _refuse_twice(runs: Iterable[Run]) -> None:
    """Raise InputError if a recording is given twice, by its path or as a copy."""
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        first = found.setdefault((run.run_id, run.generation), run)
        if run.run_id and first is not run:
            raise InputError(
                f"{first.path or first.label} and {run.path or run.label} are one recording (run id "
                f"{run.run_id}, generation {run.generation}), which is one run however often it is copied; "
                "name it once"
            )


def open_runs(runs: Any, meta: GivenMeta | None = None, *, strict: bool = False) -> list[Run]:
    """Open runs (paths or trees from `open_run`) and give each a unique label.

    Entries of `meta`, by path, replace those that the run recorded. Equal labels get ``#2``, ``#3``, ... in
    the given order. A run that cannot be opened has no streams, and ``lost`` says why.

    Raises
    ------
    InputError
        There is no run, an item is neither a path nor a tree, a recording is given twice, or `meta` names a
        path that is not among the runs.
    StoreError
        No run can be opened, or with `strict` one run cannot.
    """
    items: Iterable[Any] = [runs] if isinstance(runs, (str, os.PathLike, xr.DataTree)) else list(runs)
    given = entries_by_path(meta or {}, items)
    for position, item in enumerate(items):
        if not isinstance(item, (str, os.PathLike, xr.DataTree)):
            raise InputError(
                f"run {position} is a {type(item).__name__}; give a path or what open_run returns"
            )
    found = [_open_or_lose(item, position, given) for position, item in enumerate(items)]
    if not found:
        raise InputError("no runs given; name at least one recorded store")
    causes = [cause for _, cause in found if cause is not None]
    if causes and (strict or len(causes) == len(found)):
        lost = next(run for run, cause in found if cause is not None)
        if isinstance(causes[0], FadiagError):
            raise causes[0]
        raise StoreError(f"run {lost.path or lost.label} cannot be opened: {lost.lost}") from causes[0]
    opened = [run for run, _ in found]
    _refuse_twice(opened)
    return _labelled(opened)


def _labelled(runs: Sequence[Run]) -> list[Run]:
    """Add a number to equal labels."""
    seen: Counter[str] = Counter()
    taken = {run.label for run in runs}
    labelled = []
    for run in runs:
        seen[run.label] += 1
        label = run.label
        if seen[label] > 1:
            number = seen[label]
            while f"{label}#{number}" in taken:
                number += 1
            label = f"{label}#{number}"
            taken.add(label)
        labelled.append(replace(run, label=label))
    return labelled
