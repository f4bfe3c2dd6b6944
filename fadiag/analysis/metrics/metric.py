"""What a metric is: one row of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fadiag.analysis.metrics.view import View

__all__ = ["WINDOW", "Metric", "Values"]

Values = NDArray[np.float64]

#: Records that a signal named ``recent/<signal>`` takes together.
WINDOW = 10


@dataclass(frozen=True)
class Metric:
    """One definition, under one name, with its source and its null.

    Parameters
    ----------
    name : str
        Name of the variable in the results.
    kinds : tuple of str
        Kinds of stream that it is measured on: ``probe``, ``live``, ``state``.
    signals : tuple of str
        Signals that it reads; ``static/<signal>`` and ``state/<signal>`` name those of another stream, and
        `fadiag.analysis.plan.signal_refs` those of another layer or step.
    function : callable
        Takes a `View` of one layer over some steps, returns one float64 a step.
    long_name, formula, source, units : str
        What the results say of it; `source` is the paper or book, or ``definition``.
    centered : bool or None
        Whether the mean row was removed; None where the question does not arise.
    needs : {"matrix", "rows", "values"}
        ``rows`` where the metric looks at single samples, which a factor of the rows lacks; ``values`` where
        the columns too must be those of the signal, so that no factor is enough.
    beside : tuple of str
        Signals recorded beside a factor from which the function can tell the same without rows.
    null : callable, optional
        Takes the view and the values, returns further variables by suffix (``null_low``, ...).
    null_signals : tuple of str
        Signals that the null, or the function, reads where they were recorded; without them there is no null,
        and no error.
    layers : str
        Which layers have it. ``all``; ``layerwise``: those that a feedback matrix in the weight's shape sends
        credit below; ``below layerwise``: those that it reaches; ``direct``: those with feedback from the
        output; ``above direct``: such a layer above another; ``output above direct``: the output above one.
    undefined : str
        When the function gives a value that is not a number; "" where it never does.
    version : int
        Raised whenever the values change; a cached value of another version is computed again.
    """

    name: str
    kinds: tuple[str, ...]
    signals: tuple[str, ...]
    function: Callable[[View], Values]
    long_name: str
    formula: str
    source: str
    units: str = "1"
    centered: bool | None = None
    needs: Literal["matrix", "rows", "values"] = "matrix"
    beside: tuple[str, ...] = ()
    null: Callable[[View, Values], Mapping[str, Values]] | None = None
    null_signals: tuple[str, ...] = ()
    layers: Literal[
        "all", "layerwise", "below layerwise", "direct", "above direct", "output above direct"
    ] = "all"
    undefined: str = ""
    version: int = 1
