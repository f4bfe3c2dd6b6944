"""Describe how each stream was recorded, as coordinates of the results.

`fadiag.results.provenance` reads these coordinates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.plan.runs import Stream
from fadiag.results.error_check import check_of
from fadiag.signals import TWINS, is_batch_sum

__all__ = ["error_checks", "samples_coordinate", "stream_coordinates"]


def stream_coordinates(streams: Sequence[Stream | None]) -> dict[str, list[Any]]:
    """Return each of the `STREAM_COORDINATES` with its values by run; None for a run without the entry."""
    found: dict[str, list[Any]] = {
        "kept_samples": [None if s is None else _kept(s) for s in streams],
        "batch_samples": [None if s is None else _of_batch(s) for s in streams],
        "probe_mode": [None if s is None else s.attrs.get("mode") for s in streams],
        "split": [None if s is None else s.attrs.get("split") for s in streams],
    }
    return {name: values for name, values in found.items() if any(v is not None for v in values)}


def samples_coordinate(streams: Sequence[Stream], metric: Metric) -> str:
    """Return the coordinate that holds the number of samples of a metric's values; "" if there is none.

    For signals with samples, and for their factors, it is the number of recorded samples. For gradients it is
    the size of the whole batch.
    """
    own = [ref.signal for ref in metric.refs if not ref.stream]
    layers = [layer for stream in streams for layer in stream.layers.values()]
    arrays = [layer[signal] for layer in layers for signal in own if signal in layer]
    if any("sample" in a.dims or a.attrs.get("reduction") == "factor" for a in arrays):
        return "kept_samples"
    return "batch_samples" if any(map(is_batch_sum, own)) else ""


def error_checks(streams: Sequence[Stream | None], layers: Sequence[str]) -> NDArray[np.object_]:
    """Return the result of the check of error_bp as texts (run, layer); "" if no check is needed."""
    found = np.full((len(streams), len(layers)), "", object)
    for i, stream in enumerate(streams):
        for layer, attrs in ({} if stream is None else stream.layer_attrs).items():
            exact = any(twin in stream.layers[layer] for twin in TWINS.values())  # type: ignore[union-attr]
            found[i, layers.index(layer)] = check_of(attrs, has_error_bp=exact)
    return found


def _kept(stream: Stream) -> int | None:
    """Return the number of recorded samples of a stream, else the most valid rows of any record."""
    kept: int | None = stream.attrs.get("samples")
    if kept is None and stream.rows_valid is not None:
        kept = int(stream.rows_valid.max(initial=0)) or None
    return kept


def _of_batch(stream: Stream) -> int | None:
    """Return the number of samples behind the gradients; None if it is unknown or not the same for all."""
    found = {
        int(array.attrs["samples"])
        for layer in stream.layers.values()
        for name, array in layer.items()
        if is_batch_sum(name) and "samples" in array.attrs
    }
    return found.pop() if len(found) == 1 else None
