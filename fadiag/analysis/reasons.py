"""Why a value of the results is not a number."""

from fadiag.analysis.metrics.metric import Metric

__all__ = ["LOG_REASON", "reason"]

LOG_REASON = "a run or step that did not log it, or a value that was logged as NaN"


def reason(metric: Metric, *, null: bool, skipped: bool) -> str:
    """Name what can leave a metric, or its null, without a value.

    Parameters
    ----------
    metric : Metric
    null : bool
        The variable is one of the metric's null.
    skipped : bool
        Signals that are not finite were left out.
    """
    causes = ["a run, layer or step without the signals"]
    if null:
        causes.append("or without draws of the null")
    if skipped:
        causes.append("or with signals that are not finite (skip_invalid)")
    if metric.undefined:
        causes.append(f"or: {metric.undefined}")
    return ", ".join(causes)
