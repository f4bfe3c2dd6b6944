"""From what was read to the store: declares, checks shapes, counts what is not finite."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fadiag.capture.arrays import Array
from fadiag.capture.resuming import Earlier
from fadiag.capture.signals import LayerSignals
from fadiag.errors import CaptureError
from fadiag.store import ArraySpec, RunWriter, layer_key

__all__ = ["ROOT", "Sink"]

#: The layer name under which the store keeps a nameless root module.
ROOT = "(root)"


class Sink:
    """One stream of a store."""

    def __init__(
        self,
        writer: RunWriter,
        stream: str,
        attrs: Mapping[str, Any],
        planned: int | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._writer = writer
        self._earlier = earlier
        self.stream = stream
        self._shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._rows: int | None = None
        self._invalid: Counter[tuple[str, str]] = Counter()
        writer.declare_stream(stream, attrs=dict(attrs), planned=planned)

    @property
    def last_step(self) -> int | None:
        """The last step recorded."""
        return self._writer.last_step(self.stream)

    @property
    def recorded(self) -> dict[str, set[str]]:
        """The signals that were recorded of each layer."""
        found: dict[str, set[str]] = {}
        for layer, signal in self._shapes:
            found.setdefault("" if layer == ROOT else layer, set()).add(signal)
        return found

    def scalars(self, step: int, values: Mapping[str, float], epoch: float | None) -> None:
        """Record scalars of the stream itself."""
        arrays = {("", name): np.array(value, np.float64) for name, value in values.items()}
        for key in arrays:
            if key not in self._shapes:
                self._shapes[key] = ()
                attrs = {"signal": key[1], **self._counted(key)}
                self._writer.declare(self.stream, *key, ArraySpec((), (), "float64", attrs))
        self._count(arrays)
        self._writer.append(self.stream, step, arrays, epoch=epoch)

    def layers(
        self, step: int, read: Sequence[LayerSignals], *, epoch: float | None, rows: int | None = None
    ) -> None:
        """Record the signals of layers."""
        arrays: dict[tuple[str, str], Array] = {}
        whole: dict[tuple[str, str], Array] = {}
        for layer in read:
            for name, signal in layer.signals.items():
                key = (layer.name or ROOT, name)
                if key not in self._shapes:
                    self._declare(key, layer, name)
                array = signal.array
                if rows is not None and signal.dims[:1] == ("sample",):
                    array = _fitted(array, self._shapes[key][0])
                if array.shape != self._shapes[key]:
                    raise CaptureError(
                        f"{name} of layer {layer.name!r} has shape {array.shape} at step {step} "
                        f"and had {self._shapes[key]} before: the model or the batch changed in mid-run; "
                        "record the changed model into a store of its own"
                    )
                arrays[key] = array
                if "nan_means" not in signal.attrs:
                    whole[key] = signal.array
        self._count(whole)
        if rows is not None and self._rows is None:
            self._rows = rows
        valid = rows if rows is None or self._rows is None else min(rows, self._rows)
        self._writer.append(self.stream, step, arrays, epoch=epoch, rows_valid=valid)

    def _declare(self, key: tuple[str, str], layer: LayerSignals, name: str) -> None:
        signal = layer.signals[name]
        attrs = {"signal": name, "reduction": "raw", "loss_scale": 1.0, **signal.attrs}
        if self._earlier is not None:
            self._earlier.check_declared(self.stream, layer, name, attrs)
        attrs |= self._counted(key)
        spec = ArraySpec(signal.dims, signal.array.shape, str(signal.array.dtype), attrs)
        self._writer.declare(self.stream, *key, spec, layer_attrs=dict(layer.attrs))
        self._shapes[key] = signal.array.shape

    def _place(self, key: tuple[str, str]) -> str:
        layer, signal = key
        return "/".join((self.stream, layer_key(layer), signal) if layer else (self.stream, signal))

    def _counted(self, key: tuple[str, str]) -> dict[str, int]:
        """Return the count to declare a signal with: 0, but none where an earlier session has it."""
        known = self._writer.attrs(self._place(key))
        before = known.get("nan_count")
        self._invalid[key] = before if type(before) is int else 0
        return {} if known else {"nan_count": 0}

    def _count(self, arrays: Mapping[tuple[str, str], Array]) -> None:
        """Count values that are not finite: they are recorded as they are, and reported (padding left out).

        The store is told before it gets them, so that each commit has the count of what it holds.
        """
        for key, array in arrays.items():
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(np.vdot(array, array)):
                    continue  # a single value that is not finite would have spoilt the sum of squares
            bad = int(array.size - np.count_nonzero(np.isfinite(array)))
            if bad:
                self._invalid[key] += bad
                self._writer.set_attrs(self._place(key), {"nan_count": self._invalid[key]})


def _fitted(array: Array, rows: int) -> Array:
    """Cut an array to its first rows, or pad it with rows of NaN."""
    if len(array) == rows:
        return array
    fitted = np.full((rows, *array.shape[1:]), np.nan, array.dtype)
    fitted[: len(array)] = array[:rows]
    return fitted
