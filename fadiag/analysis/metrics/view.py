"""View gives the function of a metric the signals of one layer over some steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.analysis.metrics.unfold import center, unfold
from fadiag.signals import part_of
from fadiag.store import Unfolding

__all__ = ["Layer", "SignalView", "View", "spectrum_of"]

T = TypeVar("T")


def spectrum_of(signal: str, *, centered: bool) -> str:
    """Return the name under which a signal's singular values may be recorded."""
    return part_of(signal, "spectrum_centered" if centered else "spectrum_raw")


@dataclass(frozen=True)
class Layer:
    """The description of a layer from the store, with the options of the analysis.

    ``classes`` is the number of outputs of the network's last layer. ``k`` is the dimension of the compared
    subspaces. They are None if the run does not state them.

    Examples
    --------
    >>> Layer("fc1", order=0, feedback_kind="layerwise", classes=10, k=9).unfolding
    'samples'
    """

    name: str
    order: int
    feedback_kind: str
    classes: int | None
    k: int | None
    unfolding: Unfolding = "samples"


@dataclass(frozen=True)
class SignalView:
    """The recorded values (step, *dims) of one signal, or of its QR factor if ``factor`` is True.

    ``rows`` and ``columns`` are the shape of the signal's matrix, if the shape of a factor differs. A static
    signal has a step axis of length 1, which broadcasts.

    Examples
    --------
    >>> SignalView(np.ones((5, 8, 3)), ("sample", "out")).factor
    False
    """

    values: NDArray[Any]
    dims: tuple[str, ...]
    factor: bool = False
    rows: int | None = None
    columns: int | None = None


@dataclass(frozen=True)
class View:
    """The signals of one layer, over steps with the same signals and the same number of valid rows.

    A quantity that several metrics need, such as a spectrum, is computed once and cached. The cache lives as
    long as the view, which is one block of steps.

    Examples
    --------
    >>> layer = Layer("fc1", order=0, feedback_kind="exact", classes=3, k=2)
    >>> view = View(layer, np.array([0]), {"error": SignalView(2 * np.eye(3)[None], ("sample", "out"))})
    >>> view.spectrum("error").round(9).tolist()
    [[2.0, 2.0, 2.0]]
    """

    layer: Layer
    steps: NDArray[np.int64]
    signals: Mapping[str, SignalView]
    rows_valid: int | None = None
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def keep(self, key: Any, compute: Callable[[], T]) -> T:
        """Return the cached value of a key; compute it on the first call."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast(T, self._kept[key])

    def values(self, signal: str) -> NDArray[Any]:
        """Return the recorded values (step, ...) of a signal, without padded samples."""
        found = self.signals[signal]
        if self.rows_valid is not None and found.dims[:1] == ("sample",):
            return found.values[:, : self.rows_valid]
        if self.rows_valid is not None and found.dims[:2] == ("window", "sample"):
            return found.values[:, :, : self.rows_valid]
        return found.values

    def matrix(self, signal: str, *, centered: bool = False) -> NDArray[Any]:
        """Return the matrices (step, rows, columns) of a signal."""
        found = self.signals[signal]
        if centered:
            return self.keep(("centered", signal), lambda: center(self.matrix(signal), factor=found.factor))
        return self.keep(
            ("raw", signal),
            lambda: unfold(
                found.values,
                found.dims,
                self.layer.unfolding,
                rows_valid=self.rows_valid,
                what=f"{signal} of layer {self.layer.name!r}",
            ),
        )

    def shape(self, signal: str) -> tuple[int, int]:
        """Return the number of rows and columns of a signal's matrix before any factorization."""
        found, (rows, columns) = self.signals[signal], self.matrix(signal).shape[-2:]
        return found.rows or int(rows), found.columns or int(columns)

    def spectrum(self, signal: str, *, centered: bool = False) -> NDArray[np.float64]:
        """Return the singular values (step, k) of a signal, largest first, as recorded if they were."""
        recorded = spectrum_of(signal, centered=centered)
        if recorded in self.signals:
            return self.values(recorded).astype(np.float64)
        return self.keep(
            ("spectrum", signal, centered),
            lambda: spectra.singular_values(self.matrix(signal, centered=centered)),
        )

    def flat(self, signal: str) -> NDArray[Any]:
        """Return each step's values as one vector: (step, size)."""
        values = self.values(signal)
        return values.reshape(len(values), -1)
