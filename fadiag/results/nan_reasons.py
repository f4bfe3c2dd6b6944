"""Why a value of the results is not a number."""

__all__ = ["LOG_REASON", "nan_reason"]

LOG_REASON = "a run or step that did not log it, or a value that was logged as NaN"


def nan_reason(undefined: str, *, null: bool, skipped: bool) -> str:
    """Name what can leave a metric, or its null, without a value.

    Parameters
    ----------
    undefined : str
        When the metric itself gives none (`Metric.undefined`); "" where it always gives one.
    null : bool
        The variable is one of the metric's null.
    skipped : bool
        Signals that are not finite were left out.

    Examples
    --------
    >>> nan_reason("no sample has a direction", null=False, skipped=False)
    'a run, layer or step without the signals, or: no sample has a direction'
    """
    causes = ["a run, layer or step without the signals"]
    if null:
        causes.append("or without draws of the null")
    if skipped:
        causes.append("or with signals that are not finite (skip_invalid)")
    if undefined:
        causes.append(f"or: {undefined}")
    return ", ".join(causes)
