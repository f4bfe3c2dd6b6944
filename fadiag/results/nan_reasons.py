"""Explain in words why a value of the results is NaN."""

from collections.abc import Sequence

__all__ = ["LOG_REASON", "nan_reason"]

LOG_REASON = "a run or step that did not log it, or a value that was logged as NaN"


def nan_reason(
    undefined: str, *, null: Sequence[str] = (), lost: bool = False, absent: Sequence[str] = ()
) -> str:
    """Return the possible reasons why a metric, or its null, has no value.

    Parameters
    ----------
    undefined : str
        The case in which the metric is undefined (`Metric.undefined`); "" if it is always defined.
    null : sequence of str
        The reasons why the null has no value although its metric has one.
    lost : bool
        Whether values were left out, as the attribute ``left_out`` of the results says.
    absent : sequence of str
        The reasons that the stores give for missing signals.

    Examples
    --------
    >>> nan_reason("no sample has a direction")
    'a run, layer or step without the signals, or: no sample has a direction'
    """
    causes = ["a run, layer or step without the signals"]
    causes[0] += f" ({'; '.join(absent)})" if absent else ""
    causes += [f"or {cause}" for cause in null]
    if lost:
        causes.append("or left out (see the attribute left_out of the results)")
    if undefined:
        causes.append(f"or: {undefined}")
    return ", ".join(causes)
