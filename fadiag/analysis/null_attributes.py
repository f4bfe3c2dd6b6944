"""Describe the null of a variable: its definition, the summary of its draws, and why values are missing."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fadiag.analysis.metrics.metric import Metric, Values
from fadiag.analysis.metrics.nulls import TAIL, misfit
from fadiag.analysis.plan.runs import Run, Stream
from fadiag.analysis.plan.tasks import Options
from fadiag.results.error_check import FAILED, check_of
from fadiag.signals import NULLS, NullSpec, role_of
from fadiag.spectra.statistics.p_value import TIE

__all__ = ["absences", "null_attributes", "why_without_draws"]

_QUANTILES = "linear between the two nearest of the sorted draws (Hyndman and Fan 1996, type 7)"
_EQUAL = (
    f"a draw equals the value within {TIE:g} of the scale, the larger of |value| and the median |draw| "
    "(the upper one of an even number)"
)
#: Kind of p-value -> its tail, and the comparison of a draw with the value.
P_VALUES = {"null_p": ("upper", ">="), "null_p_low": ("lower", "<=")}
_SUMMARIES = {"null_mean": "mean of the draws", "null_draws": "number of draws that are not NaN"}


def null_attributes(metric: Metric, suffix: str, draws: Values | None) -> dict[str, Any]:
    """Return the attributes of a null's variable: its definition, the formula of p, the tail and the draws.

    Parameters
    ----------
    metric, suffix : Metric, str
        As `fadiag.analysis.attributes.companion_of` returns them.
    draws : array, optional
        The number of draws of each value, if the null consists of draws.
    """
    if "null_" not in suffix:
        return {}
    kind = suffix[suffix.index("null_") :]
    attrs: dict[str, Any] = {"null": metric.null_definition}
    for null in _nulls(metric, suffix):
        attrs |= {"null": null.definition, "draws_of": ", ".join(_arrays(metric, null))}
    if kind in P_VALUES:
        attrs["tail"] = P_VALUES[kind][0]
    if draws is not None:
        known = np.unique(draws[~np.isnan(draws)]).astype(int)
        attrs["draws"] = (
            int(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}" if len(known) else 0
        )
        attrs["summary"] = _SUMMARIES.get(kind, "")
        if kind in P_VALUES:
            attrs["p_formula"] = f"(1 + #{{draws {P_VALUES[kind][1]} value}}) / (draws + 1); {_EQUAL}"
        if kind in ("null_low", "null_high"):
            share = TAIL if kind == "null_low" else 1 - TAIL
            attrs["quantile_rule"] = f"{share:.1%} quantile, {_QUANTILES}"
    return {key: value for key, value in attrs.items() if value != ""}


def _arrays(metric: Metric, null: NullSpec) -> list[str]:
    """Return the recorded draws of a null that a metric reads."""
    return [signal for signal in metric.null_signals if role_of(signal).null == null.name]


def _nulls(metric: Metric, suffix: str) -> list[NullSpec]:
    """Return the null that a variable belongs to; for the metric itself, all of its nulls."""
    kind = suffix[suffix.index("null_") :] if "null_" in suffix else ""
    return [
        null
        for null in NULLS.values()
        if _arrays(metric, null) and (not kind or null.prefix == suffix.removesuffix(kind))
    ]


def absences(runs: Sequence[Run], name: str, metric: Metric, suffix: str, options: Options) -> str:
    """Return why some runs or layers have no draws of a null: the text of the attribute ``null_left_out``.

    Parameters
    ----------
    runs : sequence of Run
        All runs.
    name : str
        The variable's stream.
    metric, suffix : Metric, str
        As `fadiag.analysis.attributes.companion_of` returns them.
    options : Options
    """
    having = [(run, run.streams[name]) for run in runs if name in run.streams]
    recorded = {signal for _, stream in having for held in stream.layers.values() for signal in held}
    nulls = [null for null in _nulls(metric, suffix) if recorded.intersection(_arrays(metric, null))]
    found: dict[str, list[str]] = {}  # the runs of each reason
    for run, stream in having:
        reasons = (why for null in nulls for why in _reasons(run, stream, metric, null, options))
        for why in dict.fromkeys(reasons):
            found.setdefault(why, []).append(run.label)
    everywhere = len(having)
    return "; ".join(
        why if len(labels) == everywhere else f"{why} (run {', '.join(labels)})"
        for why, labels in found.items()
    )


def _reasons(run: Run, stream: Stream, metric: Metric, null: NullSpec, options: Options) -> Iterator[str]:
    """Yield the reasons of one run for one null."""
    arrays = _arrays(metric, null)
    drawn = [layer for layer, held in stream.layers.items() if any(signal in held for signal in arrays)]
    if not drawn:
        yield f"no draws of {null.name} were recorded"
        return
    for layer, held in stream.layers.items():
        if layer in drawn:
            own = run.layer(stream, layer, options.unfolding, options.k)
            yield from filter(None, (misfit(signal, held, own) for signal in arrays))
        elif all(signal in held for signal in metric.signals):
            yield f"{null.name} of layer '{layer}': {_why_not_drawn(stream, layer, null)}"


def _why_not_drawn(stream: Stream, layer: str, null: NullSpec) -> str:
    """Return the reason that the store gives for a layer without draws."""
    attrs = stream.layer_attrs[layer]
    if reason := attrs.get(f"no_{null.name}"):
        return str(reason)
    if check_of(attrs) == FAILED:
        return "error_bp is not the derivative of the loss there"
    return "no draws were recorded, and the store does not say why"


def why_without_draws(values: Values, null: Values, *, left_out: bool) -> list[str]:
    """Return why some values (run, layer, step) have no null.

    Parameters
    ----------
    values, null : array (run, layer, step)
        The values of the metric, and those of one variable of its null.
    left_out : bool
        Whether the attribute ``null_left_out`` names runs or layers.

    Examples
    --------
    >>> null = np.array([[[0.1, np.nan], [0.2, np.nan]]])
    >>> why_without_draws(np.ones((1, 2, 2)), null, left_out=False)
    ['no draws at this step (null_every)']
    """
    lacking = ~np.isnan(values) & np.isnan(null)
    of_step = ~np.isnan(null).all(axis=1, keepdims=True)  # any layer has draws at the step
    of_layer = ~np.isnan(null).all(axis=2, keepdims=True)
    between = lacking & ~of_step & of_layer
    apart = lacking & ~of_layer
    causes = []
    if between.any():
        causes.append("no draws at this step (null_every)")
    if apart.any() and left_out:
        causes.append("no draws for this run or layer; the attribute null_left_out says why")
    if (lacking & ~between & ~(apart & left_out)).any():
        causes.append("each of its draws is zero, which has no direction")
    return causes
