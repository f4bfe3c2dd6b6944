"""What the results say of each variable: its definition, what it was measured on, what its null is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import TAIL, misfit
from fadiag.analysis.plan.runs import Run
from fadiag.analysis.plan.tasks import Options
from fadiag.analysis.stream_provenance import samples_coordinate
from fadiag.results.nan_reasons import nan_reason
from fadiag.results.null_values import AT_CEILING, NULL_WORDS
from fadiag.results.provenance import joined
from fadiag.signals import NULLS, role_of
from fadiag.spectra.statistics.p_value import TIE

__all__ = ["companion_of", "null_attributes", "variable_attributes"]

_QUANTILES = "linear between the two nearest of the sorted draws (Hyndman and Fan 1996, type 7)"
_EQUAL = f"a draw within {TIE:g} of the value's scale is equal"
_P = {"null_p": ("upper", ">="), "null_p_low": ("lower", "<=")}


def companion_of(variable: str, metrics: Mapping[str, Metric]) -> tuple[Metric | None, str]:
    """Return the metric that a variable belongs to, and the suffix of its companion: its null, or a mark."""
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
    absent: bool,
    lost: bool,
) -> dict[str, Any]:
    """Return the attributes of a variable: those of its metric, and how its stream was recorded.

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
    absent, lost : bool
        Whether a value is not a number, and whether something of it was left out.
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
        "null_left_out": _null_left_out(runs, stream, metric, options),
    }
    if metric.centered is not None:
        attrs["centered"] = int(metric.centered)
    if metric.of_subspaces:
        attrs |= _k_of(runs, stream, options)
    if suffix == AT_CEILING:
        attrs["long_name"] = (
            f"1 where it is within 1 % of the largest that its matrix allows: {metric.long_name}"
        )
        attrs["units"] = "1"
    elif suffix:
        kind = suffix[suffix.index("null_") :]
        words = NULL_WORDS[kind].replace("null", f"{suffix.removesuffix(kind)}null".replace("_", " "))
        attrs["long_name"] = f"{words} the {metric.long_name}"
        attrs["units"] = "1" if kind in (*_P, "null_draws") else metric.units
    if absent:
        attrs["not_a_number"] = nan_reason(metric.undefined, null="null_" in suffix, lost=lost)
    return {key: value for key, value in attrs.items() if value != ""}


def null_attributes(metric: Metric, suffix: str, draws: Values | None) -> dict[str, Any]:
    """Return what a variable of a null says of it: which it is, the formula of p, the tail, the draws.

    Parameters
    ----------
    metric, suffix : Metric, str
        As `companion_of` returns them.
    draws : array, optional
        The numbers of draws, where it is a null of draws.
    """
    if "null_" not in suffix:
        return {}
    kind = suffix[suffix.index("null_") :]
    attrs: dict[str, Any] = {"null": metric.null_definition}
    for null in NULLS.values():
        arrays = [signal for signal in metric.null_signals if role_of(signal).null == null.name]
        if null.prefix == suffix.removesuffix(kind) and arrays:
            attrs |= {"null": null.definition, "draws_of": ", ".join(arrays)}
    if kind in _P:
        attrs["tail"] = _P[kind][0]
    if draws is not None:
        known = np.unique(draws[~np.isnan(draws)]).astype(int)
        attrs["draws"] = (
            int(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}" if len(known) else 0
        )
        if kind in _P:
            attrs["p_formula"] = f"(1 + #{{draws {_P[kind][1]} value}}) / (draws + 1); {_EQUAL}"
        if kind in ("null_low", "null_high"):
            share = TAIL if kind == "null_low" else 1 - TAIL
            attrs["quantile_rule"] = f"{share:.1%} quantile, {_QUANTILES}"
    return {key: value for key, value in attrs.items() if value != ""}


def _k_of(runs: Sequence[Run], stream: str, options: Options) -> dict[str, Any]:
    """Return the dimension of the compared subspaces, and what it was guessed from."""
    if options.k is not None:
        return {"k": options.k}
    told = [run.streams[stream].classes for run in runs if stream in run.streams]
    return {
        "k": joined([max(1, classes - 1) for classes, _ in told if classes]),
        "k_source": joined([f"one less than {guess}" for classes, guess in told if classes and guess]),
    }


def _null_left_out(runs: Sequence[Run], name: str, metric: Metric, options: Options) -> str:
    """Return why recorded draws were left out, where they were."""
    found = {
        why: None
        for run in runs
        if (stream := run.streams.get(name)) is not None
        for layer, arrays in stream.layers.items()
        for signal in metric.null_signals
        if (why := misfit(signal, arrays, run.layer(stream, layer, options.unfolding, options.k)))
    }
    return "; ".join(found)
