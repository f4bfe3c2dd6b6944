"""Describe each variable of the results: its definition, its samples and stream, and its null."""

from collections.abc import Mapping, Sequence
from typing import Any

from fadiag.analysis.metrics.metric import LAYERS, Metric
from fadiag.analysis.null_attributes import P_VALUES, absences
from fadiag.analysis.plan.block import CEILING
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.tasks import Options
from fadiag.analysis.stream_provenance import samples_coordinate
from fadiag.results.null_values import AT_CEILING, NULL_WORDS
from fadiag.results.provenance import joined
from fadiag.signals import NULLS, role_of

__all__ = ["companion_of", "variable_attributes"]

#: How a signal becomes a matrix, by unfolding. "" is for signals without samples.
_MATRICES = {
    "samples": "one row per sample, all other axes as columns",
    "channels": "one row per sample and position (per sample if there are none), one column per channel",
    "": "the first axis as rows, all others as columns",
}
#: What a metric needs from its signals in addition to their matrix.
_NEEDS = {
    "rows": "single samples, which a factor of the rows lacks (but see read_instead)",
    "values": "the signals' own columns, which no factor has",
}


def companion_of(variable: str, metrics: Mapping[str, Metric]) -> tuple[Metric | None, str]:
    """Return the metric that a variable belongs to, and the suffix if it is that metric's null or mark."""
    suffixes = (
        "",
        AT_CEILING,
        *(f"{null.prefix}{suffix}" for null in NULLS.values() for suffix in NULL_WORDS),
    )
    for suffix in suffixes:
        name = variable.removesuffix(f"_{suffix}") if suffix else variable
        if name in metrics and variable == (f"{name}_{suffix}" if suffix else name):
            return metrics[name], suffix
    return None, ""


def variable_attributes(
    metric: Metric,
    suffix: str,
    runs: Sequence[Run],
    stream: str,
    *,
    of_runs: Mapping[str, Sequence[Any]],
    options: Options,
) -> dict[str, Any]:
    """Return the attributes of a variable: its definition, and how its stream was recorded.

    Parameters
    ----------
    metric, suffix : Metric, str
        As `companion_of` returns them.
    runs : sequence of Run
        All runs.
    stream : str
        The variable's stream.
    of_runs : mapping
        The stream's coordinates along run.
    options : Options
    """
    streams = [run.streams[stream] for run in runs if stream in run.streams]
    counted = samples_coordinate(streams, metric)
    attrs: dict[str, Any] = {
        "long_name": metric.long_name,
        "units": metric.units,
        "formula": metric.formula,
        "source": metric.source,
        "definition_version": metric.version,
        "signals": ", ".join(metric.signals),
        "unfolding": options.unfolding if metric.unfolds else "",
        "samples": joined(of_runs.get(counted, [])),
        "samples_coordinate": counted,
        "probe_mode": joined(of_runs.get("probe_mode", [])),
        "split": joined(of_runs.get("split", [])),
        "null_left_out": absences(runs, stream, metric, suffix, options),
        "read_instead": _read_instead(streams, metric),
        "read_too": ", ".join(metric.read_too),
        "needs": _NEEDS.get(metric.needs, ""),
        "layers": "" if metric.layers == "all" else LAYERS[metric.layers],
    }
    if metric.unfolds or metric.centered is not None:
        attrs["matrix"] = _MATRICES[attrs["unfolding"]]
    if metric.centered is not None:
        attrs["centered"] = int(metric.centered)
    if metric.of_subspaces:
        attrs |= _k_of(runs, stream, options)
    if suffix == AT_CEILING:
        attrs["long_name"] = (
            f"1 where it is within 1 % of the largest value for its matrix: {metric.long_name}"
        )
        attrs["units"] = "1"
        attrs["ceiling"] = f"value >= {CEILING:g} {metric.bound_formula}"
    elif suffix:
        kind = suffix[suffix.index("null_") :]
        words = NULL_WORDS[kind].replace("null", f"{suffix.removesuffix(kind)}null".replace("_", " "))
        attrs["long_name"] = f"{words} the {metric.long_name}"
        attrs["units"] = "1" if kind in (*P_VALUES, "null_draws") else metric.units
    return {key: value for key, value in attrs.items() if value != ""}


def _k_of(runs: Sequence[Run], stream: str, options: Options) -> dict[str, Any]:
    """Return the dimension of the compared subspaces, and the source if it was guessed."""
    if options.k is not None:
        return {"k": options.k}
    guesses = [run.streams[stream].classes for run in runs if stream in run.streams]
    return {
        "k": joined([max(1, classes - 1) for classes, _ in guesses if classes]),
        "k_source": joined([f"one less than {guess}" for classes, guess in guesses if classes and guess]),
    }


def _read_instead(streams: Sequence[Stream], metric: Metric) -> str:
    """Return the recorded parts that a metric reads instead of its signals, in layers that have them."""
    parts = (*metric.factor_signals, *(signal for signal in metric.null_signals if not role_of(signal).null))
    recorded = {name for stream in streams for arrays in stream.layers.values() for name in arrays}
    return ", ".join(part for part in dict.fromkeys(parts) if part in recorded and part not in metric.signals)
