"""What a layer of a run can give: which signals it has, and which metrics they are enough for."""

from collections.abc import Mapping, Sequence

import xarray as xr

from fadiag.analysis.metric import Metric
from fadiag.analysis.source import Run, Stream
from fadiag.errors import MissingSignalError

__all__ = ["check_asked", "fits", "sources_of"]


def sources_of(run: Run, stream: Stream, layer: str) -> dict[str, xr.DataArray]:
    """Return every array that a metric of this layer can name."""
    found = dict(stream.layers[layer])
    for name, array in run.static.get(layer, {}).items():
        found[f"static/{name}"] = array
    for other in run.streams.values():
        if other.kind == "state" and other is not stream:
            found |= {f"state/{name}": array for name, array in other.layers.get(layer, {}).items()}
    return found


def fits(metric: Metric, stream: Stream, layer: str, sources: Mapping[str, xr.DataArray]) -> bool:
    """Tell whether a layer gives a metric: kind, feedback, signals, and rows where rows are needed."""
    if stream.kind not in metric.kinds or not all(_stored(s, sources) for s in metric.signals):
        return False
    attrs = stream.layer_attrs[layer]
    if metric.layers == "layerwise" and (
        attrs.get("feedback_kind") != "layerwise" or int(attrs.get("order", 0)) == 0
    ):
        return False
    return metric.needs == "matrix" or all(
        sources[s].attrs.get("reduction", "raw") != "factor" for s in metric.signals if s in sources
    )


def _stored(signal: str, sources: Mapping[str, xr.DataArray]) -> bool:
    # Feedback that is learned is recorded over time, in the place of the static one.
    return signal in sources or (signal == "static/feedback" and "feedback" in sources)


def check_asked(runs: Sequence[Run], metrics: Sequence[Metric]) -> None:
    """Refuse a metric, asked for by name, that no layer of a run can give.

    Raises
    ------
    MissingSignalError
        It names the run, the layer, the signal and what was recorded instead.
    """
    for run in runs:
        for metric in metrics:
            places = [(s, name) for s in run.streams.values() if s.kind in metric.kinds for name in s.layers]
            if not places:
                have = ", ".join(f"{s.name} ({s.kind})" for s in run.streams.values())
                raise MissingSignalError(
                    f"{metric.name} needs a stream of kind {' or '.join(metric.kinds)}; "
                    f"run {run.label} recorded {have}"
                )
            sources = [sources_of(run, stream, name) for stream, name in places]
            if not any(fits(metric, *place, have) for place, have in zip(places, sources, strict=True)):
                _raise_missing(run, metric, [name for _, name in places], sources)


def _raise_missing(
    run: Run,
    metric: Metric,
    layers: Sequence[str],
    sources: Sequence[Mapping[str, xr.DataArray]],
) -> None:
    absent = [[s for s in metric.signals if not _stored(s, have)] for have in sources]
    if all(absent):
        layer, first, have = next(zip(layers, absent, sources, strict=True))
        recorded = ", ".join(sorted(have)) or "nothing"
        raise MissingSignalError(
            f"{metric.name} needs the signal {first[0]!r}; "
            f"run {run.label}, layer '{layer}' recorded {recorded}"
        )
    if metric.layers == "layerwise":
        raise MissingSignalError(
            f"{metric.name} needs layerwise feedback above the first layer; run {run.label} has none"
        )
    raise MissingSignalError(
        f"{metric.name} needs the rows of {', '.join(metric.signals)}; run {run.label} recorded only a factor"
    )
