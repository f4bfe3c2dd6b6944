"""Metric defines one row of the table of metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fadiag.analysis.metrics.signal_refs import SignalRef, parse
from fadiag.analysis.metrics.view import View

__all__ = ["LAYERS", "OF_ZEROS", "Metric", "Values"]

Values = NDArray[np.float64]
Layers = Literal["all", "layerwise", "below layerwise", "direct", "above direct", "output above direct"]

#: The end of the formula of a rank: the rank of a matrix of zeros is 0 by definition.
OF_ZEROS = "; 0 of zeros"
#: The layers that have a metric, as the results describe them. In a chain each layer feeds the next.
LAYERS: Mapping[Layers, str] = {
    "layerwise": "all with feedback_kind 'layerwise', but not the network's first",
    "below layerwise": "in a chain, all below one with feedback_kind 'layerwise'",
    "direct": "all with feedback_kind 'direct'",
    "above direct": "in a chain, all with feedback_kind 'direct' above another such layer",
    "output above direct": "in a chain, the last, above one with feedback_kind 'direct'",
}


@dataclass(frozen=True)
class Metric:
    """The definition of one metric, with its name, its source and its null.

    Parameters
    ----------
    name : str
        Name of the variable in the results.
    kinds : tuple of str
        Kinds of stream that it is measured on: ``probe``, ``live``, ``state``.
    signals : tuple of str
        Signals that it reads. A prefix names a signal of another stream, layer or step, see
        `fadiag.analysis.metrics.signal_refs`.
    function : callable
        Takes a `View` of one layer over some steps, and returns one float64 per step, or with `axis` a row.
    long_name, formula, source, units : str
        Attributes of the variable; `source` is the paper or book, or ``definition``.
    centered : bool or None
        Whether the mean row was removed; None if it does not matter.
    needs : {"matrix", "rows", "values"}
        ``rows`` if the metric reads single samples, which a factor of the rows lacks. ``values`` if it also
        needs the signal's own columns, which no factor has.
    factor_signals : tuple of str
        Signals recorded together with a factor, from which the function computes the metric without rows.
    unfolds : bool
        Whether the values depend on the unfolding of a convolution's signals. Cosines of samples and metrics
        of weights do not.
    of_subspaces : bool
        Whether the values depend on k, the dimension of the compared subspaces.
    bound : callable, optional
        Takes the view, and returns the largest value that the shape of the matrix allows. Values within 1 %
        of it are marked in the variable ``<name>_at_ceiling``.
    bound_formula : str
        The bound in words.
    null : callable, optional
        Takes the view and the values, and returns further variables by suffix (``null_low``, ...), as
        `fadiag.analysis.metrics.nulls.drawn_summary` does.
    null_definition : str
        The null in words. Recorded draws have their own definition.
    null_signals : tuple of str
        Signals that the null or the function reads if they were recorded. Without them there is no null, and
        no error.
    read_too : tuple of str
        Signals that the function reads in layers that have them, such as the bias.
    layers : str
        The layers that have the metric: ``all``, or a key of `LAYERS`.
    undefined : str
        The case in which the function returns NaN; "" if it never does.
    axis : str
        The axis of the values of one step, such as ``singular_value``; "" if they are one number. A metric
        with an axis is measured only at the ``spectra_steps`` of `analyze`.
    version : int
        Increased whenever the values change. A cached value of another version is computed again.

    Examples
    --------
    >>> largest = Metric(
    ...     "error_norm", ("probe",), ("error",), lambda view: view.spectrum("error")[:, 0],
    ...     long_name="spectral norm of the error", formula="σ_1", source="definition",
    ... )
    >>> largest.refs[0].name
    'error'
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
    factor_signals: tuple[str, ...] = ()
    unfolds: bool = True
    of_subspaces: bool = False
    bound: Callable[[View], int] | None = None
    bound_formula: str = ""
    null: Callable[[View, Values], Mapping[str, Values]] | None = None
    null_definition: str = ""
    null_signals: tuple[str, ...] = ()
    read_too: tuple[str, ...] = ()
    layers: Layers = "all"
    undefined: str = ""
    axis: str = ""
    version: int = 1

    @property
    def refs(self) -> tuple[SignalRef, ...]:
        """The parsed references to the signals that it reads."""
        return tuple(map(parse, self.signals))
