"""What the results tell of how each run's stream was recorded: of how many samples, how, of which data.

It stands in coordinates along ``run``, where the runs that are looked at may be chosen, and joined in the
attributes of each variable.
"""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.plan.runs import Stream
from fadiag.signals import is_batch_sum

__all__ = ["OF_STREAM", "joined", "of_these_runs", "samples_coordinate", "stream_coordinates"]

#: The coordinates, and the attribute that each stands for.
OF_STREAM = {
    "kept_samples": "samples",
    "batch_samples": "samples",
    "probe_mode": "probe_mode",
    "split": "split",
}


def joined(values: Sequence[Any]) -> Any:
    """One value for all runs where they agree; a comma-separated list where they do not."""
    distinct = list(dict.fromkeys(v for v in values if v is not None and v != ""))
    if len(distinct) == 1:
        return distinct[0]
    return ", ".join(str(v) for v in distinct)


def stream_coordinates(streams: Sequence[Stream | None]) -> dict[str, list[Any]]:
    """Return, by coordinate, what each run's stream tells; None where a run has none, or it tells nothing."""
    told: dict[str, list[Any]] = {
        "kept_samples": [None if s is None else _kept(s) for s in streams],
        "batch_samples": [None if s is None else _of_batch(s) for s in streams],
        "probe_mode": [None if s is None else s.attrs.get("mode") for s in streams],
        "split": [None if s is None else s.attrs.get("split") for s in streams],
    }
    return {name: values for name, values in told.items() if any(v is not None for v in values)}


def samples_coordinate(streams: Sequence[Stream], metric: Metric) -> str:
    """Return which coordinate tells the N that a metric's values are of; empty where they are of none.

    Of signals that have samples, and of their factors, it is the samples that were kept. A gradient is that
    of the whole batch.
    """
    own = [ref.signal for ref in metric.refs if not ref.stream]
    layers = [layer for stream in streams for layer in stream.layers.values()]
    arrays = [layer[signal] for layer in layers for signal in own if signal in layer]
    if any("sample" in a.dims or a.attrs.get("reduction") == "factor" for a in arrays):
        return "kept_samples"
    return "batch_samples" if any(map(is_batch_sum, own)) else ""


def _kept(stream: Stream) -> int | None:
    """Return what the stream tells, else the most valid rows recorded: how many were kept."""
    told: int | None = stream.attrs.get("samples")
    if told is None and stream.rows_valid is not None:
        told = int(stream.rows_valid.max(initial=0)) or None
    return told


def _of_batch(stream: Stream) -> int | None:
    """Return of how many samples the gradients are, where all that tell it agree."""
    found = {
        int(array.attrs["samples"])
        for layer in stream.layers.values()
        for name, array in layer.items()
        if is_batch_sum(name) and "samples" in array.attrs
    }
    return found.pop() if len(found) == 1 else None


def of_these_runs(variable: xr.DataArray) -> dict[str, Any]:
    """Return the attributes of a variable as they are of the runs that are left of those measured."""
    attrs = dict(variable.attrs)
    counted = attrs.get("samples_coordinate")
    for name, attribute in OF_STREAM.items():
        if name in variable.coords and (attribute != "samples" or name == counted):
            values = [str(v).removesuffix(".0") for v in variable[name].values]
            attrs[attribute] = joined([v for v in values if v != "nan"])
    return attrs
