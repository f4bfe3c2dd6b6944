"""LiveState describes how far a run is, from the records that its store has committed."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fadiag.analysis.labelled import effective_rank
from fadiag.errors import InputError
from fadiag.store import ROW_COUNT_SIGNAL, inspect_run, open_run, rows_of_layer

__all__ = ["LiveState", "live_state"]

#: The speed is that of so many seconds before the newest record.
_WINDOW = 60.0
#: A layer is dead if its newest record of the first of these that it has is all zeros.
_OF_DEAD = ("error", "activation", "modulator")


@dataclass(frozen=True)
class LiveState:
    """How far a run is. What its store does not say is None.

    Parameters
    ----------
    path : Path
    status : str
        As in `fadiag.store.RunInfo`: ``recording`` while it runs.
    updated : float
        When the newest records were committed, in seconds since 1970.
    stored_bytes : int
        The size of the store on the disk.
    step, steps : int, optional
        The newest committed step, and the steps in all: ``Recorder(steps=...)``, or the trainer's epochs.
    loss : float, optional
        The newest value that was logged as ``loss``.
    steps_per_second, seconds_left : float, optional
        The speed over the last minute, and the time left at that speed.
    layer : str
        The layer of the rank: the primary one of the meta, else the last hidden one; "" if there is none.
    rank : float, optional
        The effective rank of the layer's error, raw; NaN if the error is not finite.
    dead : tuple of str
        The layers whose error is all zeros.
    rank_step : int, optional
        The step of the rank and of the dead layers.
    measured : str
        The record that they are of; "" if there is none.

    Examples
    --------
    >>> state = LiveState(Path("run.zarr"), "recording", 0.0, 4096, step=10, steps=20, steps_per_second=2.0)
    >>> state.seconds_left
    5.0
    """

    path: Path
    status: str
    updated: float
    stored_bytes: int
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    layer: str = ""
    rank: float | None = None
    dead: tuple[str, ...] = ()
    rank_step: int | None = None
    measured: str = ""

    @property
    def seconds_left(self) -> float | None:
        """The time left; None if it is not known, or if nothing records the run."""
        if self.status != "recording" or not self.steps_per_second or self.steps is None or self.step is None:
            return None
        return max(0, self.steps - self.step) / self.steps_per_second


def live_state(path: str | os.PathLike[str], before: LiveState | None = None) -> LiveState:
    """Return how far a run is, also while another process records it: loss, speed, rank, dead layers.

    Parameters
    ----------
    path : path
        A store of any status.
    before : LiveState, optional
        An earlier state of the run. Its rank is taken if there is no newer record to measure.

    Returns
    -------
    LiveState

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `fadiag.open_run`.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import RunWriter
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with RunWriter(path, manifest={}) as writer:
    ...     writer.declare_stream("log", attrs={"kind": "log"})
    ...     for step in (0, 10, 20):
    ...         writer.append("log", step, {}, wall_time=float(step), extra={"loss": 1 / (1 + step)})
    >>> state = live_state(path)
    >>> state.status, state.step, state.loss, state.steps_per_second, state.rank
    ('complete', 20, 0.047619047619047616, 1.0, None)
    """
    summary = inspect_run(path)
    info = summary.info
    known: dict[str, Any] = {}
    if any(info.committed.values()):
        run = open_run(path)
        known = _clock(run, info.manifest)
        if newest := _newest_record(run):
            stream, step = newest
            record = f"{info.run_id}/{info.generation}/{stream}/{step}"
            if before is not None and before.measured == record:
                known |= {"layer": before.layer, "rank": before.rank, "dead": before.dead}
            else:
                known |= _credit(run.children[stream], info.manifest)
            known |= {"rank_step": step, "measured": record}
    return LiveState(info.path, info.status, info.updated, summary.stored_bytes, **known)


def _clock(run: xr.DataTree, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the newest step, the steps in all, the loss and the speed."""
    streams = [node.to_dataset() for node in run.children.values() if node.sizes.get("step")]
    log = [node for node in streams if node.attrs.get("kind") == "log"]
    clock = max(log or streams, key=lambda node: int(node["step"].values[-1]))
    steps, times = clock["step"].values, clock["wall_time"].values
    recent = np.flatnonzero(times >= times[-1] - _WINDOW)
    first = min(int(recent[0]), max(0, len(steps) - 2))  # two records at least
    spent = float(times[-1] - times[first])
    losses = [node["loss"].values for node in log if "loss" in node.data_vars]
    finished = [values[~np.isnan(values)] for values in losses]
    return {
        "step": max(int(node["step"].values[-1]) for node in streams),
        "steps": _steps_in_all(clock, manifest),
        "loss": next((float(values[-1]) for values in finished if len(values)), None),
        "steps_per_second": float(steps[-1] - steps[first]) / spent if spent > 0 else None,
    }


def _steps_in_all(clock: xr.Dataset, manifest: Mapping[str, Any]) -> int | None:
    """Return the steps that the recorder was given, or the epochs of the trainer's configuration in steps."""
    if isinstance(given := manifest.get("steps"), int):
        return given
    config = manifest.get("config")
    train = config.get("train") if isinstance(config, Mapping) else None
    epochs = train.get("epochs") if isinstance(train, Mapping) else None
    steps, passed = clock["step"].values, clock["epoch"].values
    known = np.flatnonzero(np.isfinite(passed))
    if not isinstance(epochs, int) or not len(known):
        return None
    first, last = known[0], known[np.argmax(passed[known])]  # the record at the end repeats the last epoch
    if passed[last] <= passed[first]:
        return None
    return epochs * round(float((steps[last] - steps[first]) / (passed[last] - passed[first])))


def _newest_record(run: xr.DataTree) -> tuple[str, int] | None:
    """Return the stream with the layers' errors and its newest step; a probe comes before a live stream."""
    held = [
        (node.attrs["kind"] != "probe", -int(node.coords["step"].values[-1]), name)
        for name, node in run.children.items()
        if node.attrs.get("kind") in ("probe", "live") and node.sizes.get("step")
    ]
    if not held:
        return None
    _, step, name = min(held)
    return name, -step


def _credit(stream: xr.DataTree, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rank of the error at the primary layer, and the dead layers, at the newest record."""
    layers = dict(_layers(stream))
    of_error = [name for name, layer in layers.items() if "error" in layer.data_vars]
    meta = manifest.get("meta")
    primary = str(meta.get("primary_layer", "")) if isinstance(meta, Mapping) else ""
    if primary not in of_error:
        primary = of_error[-2] if len(of_error) > 1 else "".join(of_error)
    found: dict[str, Any] = {
        "layer": primary,
        "dead": tuple(name for name, layer in layers.items() if _is_dead(layer)),
    }
    if primary:
        found["rank"] = _rank(layers[primary], stream.coords["rows_valid"].values)
    return found


def _layers(stream: xr.DataTree) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield the layers under their names in forward order."""
    order = sorted(stream.children.items(), key=lambda item: item[1].attrs.get("order", math.inf))
    for key, layer in order:
        yield str(layer.attrs.get("name", key)) or "(root)", layer.to_dataset()


def _is_dead(layer: xr.Dataset) -> bool:
    signal = next((name for name in _OF_DEAD if name in layer.data_vars), None)
    return signal is not None and not layer[signal].isel(step=-1).values.any()


def _rank(layer: xr.Dataset, rows: Any) -> float:
    if ROW_COUNT_SIGNAL in layer.data_vars:
        rows = rows_of_layer(layer[ROW_COUNT_SIGNAL].values, rows)
    error = layer["error"].drop_vars("rows_valid", errors="ignore")
    error = error.assign_coords(rows_valid=("step", rows)).isel(step=-1)
    try:
        found = effective_rank(
            error, unfolding="channels" if error.attrs.get("unfolding") == "channels" else "samples"
        )
        return float(found)
    except InputError:  # the error is not finite
        return math.nan
