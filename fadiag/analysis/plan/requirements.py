"""Find the signals that a layer of a run has, and the metrics that they allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import xarray as xr

from fadiag.analysis.metrics.metric import Metric
from fadiag.analysis.metrics.signal_refs import WINDOW, SignalRef, parse
from fadiag.analysis.plan.chain import chain_of
from fadiag.analysis.plan.records import declared_at
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.unmeasured import Unmeasured
from fadiag.errors import MissingSignalError
from fadiag.results.left_out import LeftOut
from fadiag.store import Unfolding

__all__ = ["LayerContext", "check_asked", "layer_contexts", "other_unfolding"]


@dataclass(frozen=True)
class LayerContext:
    """A layer of a stream of a run, its position in the chain, and the arrays of all layers."""

    run: Run
    stream: Stream
    layer: str
    position: int
    chain: tuple[str, ...]
    arrays: Mapping[str, Mapping[str, xr.DataArray]]

    def owner(self, above: int) -> str | None:
        """Return the layer `above` places higher in the chain; None if the chain has no such place."""
        if above == 0:
            return self.layer
        place = self.position + above
        return self.chain[place] if 0 <= place < len(self.chain) else None

    def signals(self, metric: Metric) -> tuple[str, ...]:
        """Return the signals that a metric needs here, with ``above*`` written out."""
        layers_above = len(self.chain) - 1 - self.position
        return tuple(str(one) for ref in metric.refs for one in ref.expanded(layers_above))

    def array(self, signal: str) -> xr.DataArray | None:
        """Return the array behind a signal name of a metric; None if it was not recorded."""
        ref = parse(signal)
        owner = self.owner(ref.above)
        if owner is None:
            return None
        arrays = self.arrays[owner]
        # Learned feedback is recorded over time, and replaces the static one.
        learned = ref.stream == "static" and ref.signal in arrays
        return arrays.get(ref.signal if learned else ref.name)

    def resolve(self, metric: Metric) -> Metric | None:
        """Return the metric with its signals written out for this layer; None if a signal is missing."""
        if self.stream.kind not in metric.kinds or not self._has_feedback(metric):
            return None
        arrays = {s: self.array(s) for s in self.signals(metric)}
        if any(a is None for a in arrays.values()):
            return None
        sides = {side for a in arrays.values() if (side := _factor_side(a))}
        if sides and metric.needs == "values":
            return None
        if "rows" in sides and metric.needs == "rows":
            if not metric.factor_signals or any(self.array(s) is None for s in metric.factor_signals):
                return None
            return replace(metric, signals=metric.factor_signals)
        return replace(metric, signals=tuple(arrays)) if tuple(arrays) != metric.signals else metric

    def _has_feedback(self, metric: Metric) -> bool:
        attrs = self.stream.layer_attrs[self.layer]
        if metric.layers == "layerwise":
            return attrs.get("feedback_kind") == "layerwise" and int(attrs.get("order", 0)) != 0
        if metric.layers == "direct":
            return attrs.get("feedback_kind") == "direct"
        if metric.layers == "below layerwise":
            return self._feedback_kind(above=1) == "layerwise"
        if metric.layers == "above direct":
            return attrs.get("feedback_kind") == self._feedback_kind(above=-1) == "direct"
        if metric.layers == "output above direct":
            return self.position == len(self.chain) - 1 and self._feedback_kind(above=-1) == "direct"
        return True

    def _feedback_kind(self, *, above: int) -> str:
        other = self.owner(above)
        return "" if other is None else str(self.stream.layer_attrs[other].get("feedback_kind", ""))


def layer_contexts(run: Run, stream: Stream) -> list[LayerContext]:
    """Return the layers of a stream, each with the arrays that its metrics can read."""
    chain, arrays = chain_of(run, stream), {name: _arrays(run, stream, name) for name in stream.layers}
    return [LayerContext(run, stream, name, i, chain, arrays) for i, name in enumerate(stream.layers)]


def _factor_side(array: xr.DataArray | None) -> str:
    """Return the reduced side of a factor, "rows" or "columns"; "" for another array."""
    if array is None or array.attrs.get("reduction", "raw") != "factor":
        return ""
    return str(array.attrs.get("factor_side", "rows"))


def other_unfolding(run: Run, unfolding: Unfolding) -> str:
    """Return why factors prevent measuring a run in this unfolding; "" if they do not."""
    for stream in run.streams.values():
        for layer, arrays in stream.layers.items():
            for name, array in arrays.items():
                recorded = str(array.attrs.get("unfolding", "both"))
                if _factor_side(array) and recorded not in (unfolding, "both"):
                    return (
                        f"{name} of layer {layer!r} is the factor of its {recorded!r} unfolding; analyze "
                        f"with unfolding={recorded!r}, without runs of another unfolding (run {run.label})"
                    )
    return ""


def _arrays(run: Run, stream: Stream, layer: str) -> dict[str, xr.DataArray]:
    """Return the arrays of a layer, by the name that `SignalRef` gives them."""
    found = {name: a for name, a in stream.layers[layer].items() if _has_record(a)}
    for name, array in run.static.get(layer, {}).items():
        found[SignalRef(name, "static").name] = array
    for other in run.streams.values():
        if other.kind == "state" and other is not stream:
            for name, array in other.layers.get(layer, {}).items():
                if _has_record(array):
                    found[SignalRef(name, "state").name] = array
    return found


def _has_record(array: xr.DataArray) -> bool:
    """Return whether a signal has a record; a killed run may only have declared it."""
    return "step" not in array.dims or declared_at(array) < array.sizes["step"]


def check_asked(runs: Sequence[Run], metrics: Sequence[Metric], unmeasured: Unmeasured) -> None:
    """Raise if no run allows a requested metric; if some do, add the other runs to `unmeasured`.

    Raises
    ------
    MissingSignalError
        No run allows the metric, or one run does not and `unmeasured` is strict. The error names the run, the
        layer, the missing signal and the recorded ones.
    """
    for metric in metrics:
        missing = {run.label: cause for run in runs if (cause := _missing(run, metric)) is not None}
        if missing and (unmeasured.strict or len(missing) == len(runs)):
            raise next(iter(missing.values()))
        for label, cause in missing.items():
            unmeasured.add(LeftOut(label, str(cause), metric=metric.name))


def _missing(run: Run, metric: Metric) -> MissingSignalError | None:
    """Return the reason why no layer of a run allows a metric; None if one does."""
    try:
        contexts = [context for stream in run.streams.values() for context in layer_contexts(run, stream)]
        where = [context for context in contexts if context.stream.kind in metric.kinds]
        if not where:
            have = ", ".join(f"{s.name} ({s.kind})" for s in run.streams.values())
            raise MissingSignalError(
                f"{metric.name} needs a stream of kind {' or '.join(metric.kinds)}; "
                f"run {run.label} recorded {have}"
            )
        if not any(context.resolve(metric) for context in where):
            _raise_missing(metric, where)
        _check_records(metric, where)
    except MissingSignalError as cause:
        return cause
    return None


def _check_records(metric: Metric, contexts: Sequence[LayerContext]) -> None:
    recent = [ref for ref in metric.refs if ref.records == "recent"]
    counts = [
        min(a.sizes["step"] - declared_at(a) for ref in recent if (a := context.array(str(ref))) is not None)
        for context in contexts
        if recent and context.resolve(metric)
    ]
    if counts and max(counts) < WINDOW:
        raise MissingSignalError(
            f"{metric.name} needs {WINDOW} records of {recent[0].signal}; "
            f"run {contexts[0].run.label} has {max(counts)}: record longer or more often"
        )


_FEEDBACK_WORDS = {
    "layerwise": "layerwise feedback above the first layer",
    "direct": "direct feedback",
    "below layerwise": "a chain of layers with layerwise feedback above",
    "above direct": "two layers of a chain, one above the other, with direct feedback",
    "output above direct": "an output above a layer with direct feedback",
}


def _raise_missing(metric: Metric, contexts: Sequence[LayerContext]) -> None:
    label = contexts[0].run.label
    absent = [[s for s in context.signals(metric) if context.array(s) is None] for context in contexts]
    if any(ref.above for ref in metric.refs) and not contexts[0].chain:
        raise MissingSignalError(
            f"{metric.name} needs layers in a chain, each a matrix that fits the next and none left out; "
            f"the layers of run {label} form no such chain"
        )
    if all(absent):
        recorded = ", ".join(sorted(contexts[0].arrays[contexts[0].layer])) or "nothing"
        raise MissingSignalError(
            f"{metric.name} needs the signal {absent[0][0]!r}; "
            f"run {label}, layer '{contexts[0].layer}' recorded {recorded}"
        )
    if metric.layers in _FEEDBACK_WORDS:
        raise MissingSignalError(
            f"{metric.name} needs {_FEEDBACK_WORDS[metric.layers]}; run {label} has none"
        )
    what = "values" if metric.needs == "values" else "rows"
    raise MissingSignalError(
        f"{metric.name} needs the {what} of {', '.join(metric.signals)}; run {label} recorded only a factor"
    )
