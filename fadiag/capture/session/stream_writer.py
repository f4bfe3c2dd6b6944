"""StreamWriter checks one stream's records and sends them to the store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fadiag.capture.session.resume import EarlierRun
from fadiag.capture.signals.arrays import Array
from fadiag.capture.signals.layer_signals import ONE_SHAPE, LayerSignals, SignalArray
from fadiag.capture.warn import warn_user
from fadiag.errors import CaptureError
from fadiag.signals import signal_of
from fadiag.store import ROW_COUNT_SIGNAL, ArraySpec, RunWriter, check_number, check_scalar, layer_key

__all__ = ["ROOT", "StreamWriter", "checked_scalars"]

#: The store's layer name for a root module, which has no name in the model.
ROOT = "(root)"
_CHANGED = "the model or the batch changed in mid-run; record the changed model into a separate store"

#: The prefixes of layer attributes that later readings may change or add.
_CHANGING = ("error_bp_check", "no_gate_null", "no_modulator")


class StreamWriter:
    """Declares one stream's arrays, checks their shapes, and counts values that are not finite."""

    def __init__(
        self,
        writer: RunWriter,
        stream: str,
        attrs: Mapping[str, Any],
        planned: int | None = None,
        earlier: EarlierRun | None = None,
        *,
        capacities: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        self._writer = writer
        self._earlier = earlier
        self._capacities = {(layer or ROOT, name): n for (layer, name), n in (capacities or {}).items()}
        self.stream = stream
        self._shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._ways: dict[str, tuple[str, ...]] = {}  # norm and gate of each layer in the first record
        self._warned: set[str] = set()
        self._invalid: Counter[tuple[str, str]] = Counter()
        writer.declare_stream(stream, attrs=dict(attrs), planned=planned)

    @property
    def last_step(self) -> int | None:
        """The last step recorded."""
        return self._writer.last_step(self.stream)

    def has(self, step: int) -> bool:
        """Return whether the stream has the record of a step or of a later one."""
        return self.last_step is not None and self.last_step >= step

    @property
    def recorded(self) -> dict[str, set[str]]:
        """The recorded signals of each layer."""
        found: dict[str, set[str]] = {}
        for layer, signal in self._shapes:
            found.setdefault("" if layer == ROOT else layer, set()).add(signal)
        return found

    def attrs_of(self, layer: str) -> Mapping[str, Any]:
        """Return the attributes that the store has of a layer."""
        return self._writer.attrs("/".join((self.stream, layer_key(layer or ROOT))))

    def scalars(self, step: int, values: Mapping[str, float], epoch: float | None) -> None:
        """Record scalars that belong to no layer."""
        arrays = {("", name): np.array(value, np.float64) for name, value in values.items()}
        for key in arrays:
            if key not in self._shapes:
                self._shapes[key] = ()
                attrs = {"signal": key[1], **self._counted(key)}
                self._writer.declare(self.stream, *key, ArraySpec((), (), "float64", attrs))
        self._count(arrays)
        self._writer.append(self.stream, step, arrays, epoch=epoch)

    def layers(self, step: int, read: Sequence[LayerSignals], *, epoch: float | None) -> None:
        """Record the signals of layers.

        Missing samples are filled with NaN. The record holds the number of samples. A layer that saw another
        number has it in ``rows``.
        """
        arrays: dict[tuple[str, str], Array] = {}
        whole: dict[tuple[str, str], Array] = {}
        batch = next((layer.batch for layer in read if layer.batch), None)
        for layer in read:
            signals = self._of_one_way(layer, step)
            is_declared = (layer.name or ROOT, ROW_COUNT_SIGNAL) in self._shapes
            if layer.rows is not None and (layer.rows != batch or is_declared):
                signals[ROW_COUNT_SIGNAL] = SignalArray(np.array(layer.rows, np.float64), ())
            for name, signal in signals.items():
                key = (layer.name or ROOT, name)
                if key not in self._shapes:
                    self._declare(key, layer, signal, self._shape_for(key, signal, layer))
                arrays[key] = self._fitted(key, layer, signal, step)
                if "nan_means" not in signal.attrs:
                    whole[key] = signal.array
            self._update_attrs(layer)
        self._count(whole)
        self._writer.append(self.stream, step, arrays, epoch=epoch, rows_valid=batch)

    def _update_attrs(self, layer: LayerSignals) -> None:
        """Store the result of the error_bp check, or the reason of a missing gate null, if it has changed."""
        now = {key: x for key, x in layer.attrs.items() if key.startswith(_CHANGING)}
        if not now:
            return  # reading attributes would wait for the writer thread's current write
        known = self.attrs_of(layer.name)
        if known and any(known.get(key) != x for key, x in now.items()):
            place = "/".join((self.stream, layer_key(layer.name or ROOT)))
            self._writer.set_attrs(place, {**now, "feedback_kind": layer.attrs["feedback_kind"]})

    def _of_one_way(self, layer: LayerSignals, step: int) -> dict[str, SignalArray]:
        """Return the signals that have the same meaning as in the first record, with its gate and norm.

        If a model skips a block at random, h is a different tensor in the next pass.
        """
        now = tuple(layer.attrs.get(key, "") for key in ("norm", "gate"))
        first = self._ways.setdefault(layer.name, now)
        if now == first:
            return dict(layer.signals)
        if layer.name not in self._warned:
            self._warned.add(layer.name)
            was, has = (" and ".join(filter(None, way)) or "no norm or gate" for way in (first, now))
            warn_user(
                f"layer {layer.name!r} was followed by {was} in the first record of {self.stream!r}, and is "
                f"followed by {has} at step {step}: at such steps its error is recorded, but its activation, "
                "modulator and error_post are not, because they would belong to another tensor"
            )
        return {name: s for name, s in layer.signals.items() if not signal_of(name).needs_gate}

    def _fitted(self, key: tuple[str, str], layer: LayerSignals, signal: SignalArray, step: int) -> Array:
        """Return a signal's values in the declared shape, with missing samples filled with NaN."""
        array, shape = signal.array, self._shapes[key]
        of_samples = signal.dims[:1] == ("sample",)
        if of_samples and array.shape[1:] == shape[1:] and len(array) < shape[0]:
            return _padded(array, shape[0])
        if array.shape == shape:
            return array
        has_positions = (of_samples and array.ndim > 2) or signal.attrs.get("unfolding") == "samples"
        other_length = self.stream == "live" and has_positions and array.shape[1:] != shape[1:]
        why = f"; {ONE_SHAPE}" if other_length else f": {_CHANGED}"
        raise CaptureError(
            f"{key[1]} of layer {layer.name!r} has shape {array.shape} at step {step} and had {shape} before"
            + why
        )

    def _declare(
        self, key: tuple[str, str], layer: LayerSignals, signal: SignalArray, shape: tuple[int, ...]
    ) -> None:
        attrs = {"signal": key[1], "reduction": "raw", "loss_scale": 1.0, **signal.attrs}
        if self._earlier is not None:
            self._earlier.check_declared(self.stream, layer, key[1], attrs)
        attrs |= self._counted(key)
        spec = ArraySpec(signal.dims, shape, str(signal.array.dtype), attrs)
        self._writer.declare(self.stream, *key, spec, layer_attrs=dict(layer.attrs))
        self._shapes[key] = shape

    def _shape_for(self, key: tuple[str, str], signal: SignalArray, layer: LayerSignals) -> tuple[int, ...]:
        """Return the shape to declare, with room for a layer that sees more of a later batch."""
        shape = signal.array.shape
        if signal.dims[:1] != ("sample",):
            return shape
        return (self._capacities.get(key) or max(shape[0], layer.room), *shape[1:])

    def _place(self, key: tuple[str, str]) -> str:
        layer, signal = key
        return "/".join((self.stream, layer_key(layer), signal) if layer else (self.stream, signal))

    def _counted(self, key: tuple[str, str]) -> dict[str, int]:
        """Return the attribute ``nan_count`` = 0, or nothing if an earlier session already declared it."""
        known = self._writer.attrs(self._place(key))
        before = known.get("nan_count")
        self._invalid[key] = before if type(before) is int else 0
        return {} if known else {"nan_count": 0}

    def _count(self, arrays: Mapping[tuple[str, str], Array]) -> None:
        """Count the values that are not finite, without the padding; they are recorded unchanged.

        The count is written before the values, so that every commit has the right count.
        """
        for key, array in arrays.items():
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(np.vdot(array, array)):
                    continue  # one value that is not finite makes the sum of squares not finite
            bad = int(array.size - np.count_nonzero(np.isfinite(array)))
            if bad:
                self._invalid[key] += bad
                self._writer.set_attrs(self._place(key), {"nan_count": self._invalid[key]})


def checked_scalars(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars as plain numbers, or raise an `InputError` that names one that is not a number."""
    return {check_scalar(name): check_number(f"scalar {name!r}", value) for name, value in scalars.items()}


def _padded(array: Array, rows: int) -> Array:
    """Return an array padded with rows of NaN."""
    padded = np.full((rows, *array.shape[1:]), np.nan, array.dtype)
    padded[: len(array)] = array
    return padded
