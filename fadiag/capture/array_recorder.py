"""Record signals that the user computes: in a manual backward pass, with numpy or with another library."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from fadiag import __version__
from fadiag.capture.session.given_arrays import (
    Floats,
    as_floats,
    check_layer,
    check_name,
    check_outputs,
    check_samples,
    check_signal,
    with_dims,
)
from fadiag.capture.session.json_values import as_json
from fadiag.capture.session.stream_writer import StreamWriter, checked_scalars
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.errors import InputError, StoreError
from fadiag.paths import absolute_path
from fadiag.signals import SIGNALS, StreamKind
from fadiag.store import RunWriter, check_number

__all__ = ["ArrayRecorder", "record_arrays"]


def record_arrays(
    path: str | PathLike[str],
    *,
    layers: Sequence[str],
    feedback: Mapping[str, Any] | None = None,
    feedback_kind: Literal["layerwise", "direct"] | None = None,
    classes: int | None = None,
    stream: str = "probe",
    meta: Mapping[str, Any] | None = None,
) -> "ArrayRecorder":
    """Record arrays that your own code computes, as a run that `fadiag.analyze` measures like any other.

    It is for errors that autograd does not compute. If autograd computes them, use `fadiag.Recorder`, which
    also computes error_bp and nulls. This function does not.

    Parameters
    ----------
    path : str or path
        The path of the new store; it must not exist.
    layers : sequence of str
        The names of all layers of the network, from the first to the last.
    feedback : mapping of str to array, optional
        The fixed feedback matrices, by layer. Layerwise feedback is B with the weight's shape, (out, in),
        under the layer whose weight it replaces. Direct feedback is F with shape (outputs, units), under the
        layer whose output it credits. Feedback that changes belongs to each record instead.
    feedback_kind : {"layerwise", "direct"}, optional
        Required if ``feedback`` is given.
    classes : int, optional
        The number of outputs of the network; by default the width of the last layer's error.
    stream : str
        "live" if each step has a training batch; any other name if the batch is always the same.
    meta : mapping, optional
        Metadata for the manifest, for example ``{"condition": "dfa", "seed": 0}``.

    Returns
    -------
    ArrayRecorder
        Call it once per step. Use it as a context manager to close the store at the end.

    Raises
    ------
    InputError
        A layer is named twice, a feedback belongs to an unknown layer, or ``feedback_kind`` is missing.

    Examples
    --------
    Train one hidden layer with direct feedback alignment in numpy:

    >>> import tempfile, fadiag
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(32, 5)), np.eye(3)[rng.integers(3, size=32)]
    >>> w1, w2, f1 = (rng.normal(size=shape) / 2 for shape in [(8, 5), (3, 8), (3, 8)])
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with record_arrays(
    ...     path, layers=["hidden", "out"], feedback={"hidden": f1}, feedback_kind="direct"
    ... ) as record:
    ...     for step in range(3):
    ...         h = np.tanh(x @ w1.T)
    ...         delta2 = (h @ w2.T - y) / len(x)  # of the mean loss, |h W2^T - y|^2 / 2
    ...         delta1 = delta2 @ f1 * (1 - h**2)
    ...         bp = delta2 @ w2 * (1 - h**2)
    ...         hidden = {"error": delta1, "error_bp": bp, "activation": h, "weight": w1}
    ...         record(step, {"hidden": hidden, "out": {"error": delta2, "weight": w2}})
    ...         w1, w2 = w1 - 0.1 * delta1.T @ x, w2 - 0.1 * delta2.T @ h
    >>> results = fadiag.analyze(path)
    >>> results["probe/error_cosine"].sel(layer="hidden").shape
    (1, 3)
    >>> "path_alignment_direct" in results["state"]
    True
    """
    return ArrayRecorder(
        path,
        layers,
        feedback=feedback or {},
        feedback_kind=feedback_kind or "",
        classes=classes,
        stream=stream,
        meta=meta or {},
    )


class ArrayRecorder:
    """Writes the arrays of each step to a store; created by `record_arrays`.

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.store import open_run
    >>> path = tempfile.mkdtemp() + "/run.zarr"
    >>> with record_arrays(path, layers=["out"]) as record:
    ...     record(0, {"out": {"error": np.ones((8, 3))}}, loss=0.5)
    >>> open_run(path)["probe/out/error"].shape
    (1, 8, 3)
    """

    def __init__(
        self,
        path: str | PathLike[str],
        layers: Sequence[str],
        *,
        feedback: Mapping[str, Any],
        feedback_kind: str,
        classes: int | None,
        stream: str,
        meta: Mapping[str, Any],
    ) -> None:
        self._layers = list(layers)
        if isinstance(layers, str) or not layers or len(set(layers)) < len(layers):
            raise InputError(
                f"layers is {layers!r}; give the name of each layer once, from the first to the last"
            )
        if feedback and feedback_kind not in ("layerwise", "direct"):
            raise InputError(
                f"feedback_kind is {feedback_kind!r}; say 'layerwise' for B in a weight's shape, or "
                "'direct' for F of (outputs, units)"
            )
        for name in feedback:
            check_name(name, self._layers)
        self._feedback = {
            name: as_floats(f"the feedback of layer {name!r}", given) for name, given in feedback.items()
        }
        self._kind, self._classes, self._stream = feedback_kind, classes, stream
        if stream in ("state", "log", "static"):
            raise InputError(f"stream is {stream!r}, which is a stream of its own; take another name")
        self._batch: StreamKind = "live" if stream == "live" else "probe"
        versions = {"fadiag": __version__, "numpy": np.__version__, "python": platform.python_version()}
        manifest = {
            **as_json(meta=dict(meta)),
            "versions": versions,
            "host": platform.node(),
            "source": "record_arrays",
        }
        if (place := absolute_path(path)).exists():
            raise StoreError(
                f"{place} exists, and record_arrays begins a new store; take another path, or delete this one"
            )
        self._writer = RunWriter(place, manifest=manifest)
        self._streams: dict[str, StreamWriter] = {}

    def __call__(
        self,
        step: int,
        layers: Mapping[str, Mapping[str, Any]],
        *,
        epoch: float | None = None,
        **scalars: float,
    ) -> None:
        """Record one step.

        Parameters
        ----------
        step : int
            The number of weight updates before this step; it grows from call to call.
        layers : mapping of str to mapping of str to array
            The signals of each layer, as numpy arrays or torch tensors, under their names in
            `fadiag.signals.SIGNALS`. Signals with samples have the shape (samples, units) or (samples,
            channels, *positions). Weights and signals of a weight's shape are (out, in) or (out, in,
            *kernel). Errors must be those of the mean loss.
        epoch : float, optional
        **scalars : float
            Values for the log, such as the loss.

        Raises
        ------
        InputError
            A layer or signal is unknown (the error lists similar names), or the arrays do not fit each other.
            Then nothing of the step is recorded.
        """
        logged = checked_scalars(scalars)
        epoch = None if epoch is None else check_number("epoch", epoch)
        arrays = {name: self._checked(name, signals) for name, signals in layers.items()}
        check_samples(arrays)
        last = arrays.get(self._layers[-1], {})
        if self._classes is None and (top := last.get("error", last.get("weight"))) is not None:
            self._classes = top.shape[1] if "error" in last else len(top)
        if self._kind == "direct" and self._classes is not None:
            check_outputs(self._feedback, self._classes)
        if not self._streams:
            self._put_static(step, arrays)
        found: dict[str, list[LayerSignals]] = {}
        for name in self._layers:
            signals = with_dims(arrays.get(name, {}), is_direct=self._kind == "direct")
            for stream in (self._stream, "state"):
                own = {
                    s: a
                    for s, a in signals.items()
                    if (self._batch in SIGNALS[s].streams) == (stream != "state")
                }
                if own:
                    layer = LayerSignals(name, self._attrs(name), own)
                    found.setdefault(stream, []).append(replace(layer, batch=layer.rows or 0))
        for stream, read in found.items():
            self._open(stream).layers(step, read, epoch=epoch)
        if logged:
            self._open("log").scalars(step, logged, epoch)

    def close(self) -> None:
        """Close the store as a complete run."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close(status="complete" if kind is None else "failed")

    def _checked(self, name: str, signals: Mapping[str, Any]) -> dict[str, Floats]:
        check_name(name, self._layers)
        for signal in signals:
            check_signal(signal, f"{signal} of layer {name!r}", self._batch)
        arrays = {
            signal: as_floats(f"{signal} of layer {name!r}", given) for signal, given in signals.items()
        }
        check_layer(name, arrays, feedback=self._feedback.get(name), is_direct=self._kind == "direct")
        return arrays

    def _put_static(self, step: int, layers: Mapping[str, Mapping[str, Floats]]) -> None:
        """Write the feedback, and the weights and biases if the first record is step 0."""
        for name in self._layers:
            arrays = layers.get(name, {})
            once = {"feedback": self._feedback[name]} if name in self._feedback else {}
            if step == 0:
                once |= {
                    f"{signal}_init": arrays[signal] for signal in ("weight", "bias") if signal in arrays
                }
            for signal, found in with_dims(once, is_direct=self._kind == "direct").items():
                attrs = {"signal": signal, **found.attrs}
                self._writer.put_static(name, signal, found.array, dims=found.dims, attrs=attrs)

    def _open(self, stream: str) -> StreamWriter:
        if stream not in self._streams:
            attrs = {"kind": stream}
            if stream == self._stream:
                how = {"reduction": "raw", "unfolding": "samples", "split": stream}
                attrs = {"kind": self._batch, "loss_reduction": "mean", **how}
            self._streams[stream] = StreamWriter(self._writer, stream, attrs)
        return self._streams[stream]

    def _attrs(self, name: str) -> dict[str, Any]:
        attrs = {
            "name": name,
            "order": self._layers.index(name),
            "layers_in_model": len(self._layers),
            "feedback_kind": self._kind if name in self._feedback else "exact",
        }
        return attrs if self._classes is None else {**attrs, "classes": self._classes}
