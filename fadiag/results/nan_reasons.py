"""Why a value of the results is not a number."""

__all__ = ["LOG_REASON", "nan_reason"]

LOG_REASON = "a run or step that did not log it, or a value that was logged as NaN"


def nan_reason(undefined: str, *, null: bool, lost: bool) -> str:
    """Name what can leave a metric, or its null, without a value.

    Parameters
    ----------
    undefined : str
        When the metric itself gives none (`Metric.undefined`); "" where it always gives one.
    null : bool
        The variable is one of the metric's null.
    lost : bool
        Something was left out, as the results' attribute ``left_out`` tells.

    Examples
    --------
    >>> nan_reason("no sample has a direction", null=False, lost=False)
    'a run, layer or step without the signals, or: no sample has a direction'
    """
    causes = ["a run, layer or step without the signals"]
    if null:
        causes.append("or without draws of the null")
    if lost:
        causes.append("or left out (see the attribute left_out of the results)")
    if undefined:
        causes.append(f"or: {undefined}")
    return ", ".join(causes)
