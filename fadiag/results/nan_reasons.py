"""Why a value of the results is not a number."""

from collections.abc import Sequence

__all__ = ["LOG_REASON", "nan_reason"]

LOG_REASON = "a run or step that did not log it, or a value that was logged as NaN"


def nan_reason(undefined: str, *, null: Sequence[str] = (), lost: bool = False) -> str:
    """Name what can leave a metric, or its null, without a value.

    Parameters
    ----------
    undefined : str
        When the metric itself gives none (`Metric.undefined`); "" where it always gives one.
    null : sequence of str
        Why a null has no value where its metric has one.
    lost : bool
        Something was left out, as the results' attribute ``left_out`` tells.

    Examples
    --------
    >>> nan_reason("no sample has a direction")
    'a run, layer or step without the signals, or: no sample has a direction'
    """
    causes = ["a run, layer or step without the signals"]
    causes += [f"or {cause}" for cause in null]
    if lost:
        causes.append("or left out (see the attribute left_out of the results)")
    if undefined:
        causes.append(f"or: {undefined}")
    return ", ".join(causes)
