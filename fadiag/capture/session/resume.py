"""Check that a resumed run matches the store that it continues."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fadiag.capture.layers.attributes import layer_attrs
from fadiag.capture.layers.selection import RecordedLayer, owners_of
from fadiag.capture.session.attached import AttachedModel
from fadiag.capture.signals.arrays import to_array
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.signals.samples import Subset
from fadiag.capture.streams.live import Live
from fadiag.capture.streams.probe import Probe
from fadiag.capture.warn import warn_user
from fadiag.errors import CaptureError
from fadiag.signals import is_batch_sum
from fadiag.store import (
    LayerSummary,
    RunSummary,
    SignalSummary,
    StreamSummary,
    inspect_run,
    layer_key,
    open_run,
)

__all__ = ["EarlierRun", "earlier_run"]

#: Attributes of a layer that stay the same for the whole run. The order of layers may change between passes.
_CONSTANT = ("feedback_kind", "type", "out_features", "in_features", "norm", "gate")
_OTHERWISE = "resume with it as it was, or record into a separate store"


@dataclass(frozen=True)
class EarlierRun:
    """The contents of the store of a resumed run, read before they change.

    ``resume_from`` is the step of the checkpoint from which the run continues, if the user gave one.
    """

    summary: RunSummary
    resume_from: int | None

    @property
    def step(self) -> int:
        """The step of the model."""
        return self._last if self.resume_from is None else self.resume_from

    @property
    def epoch(self) -> float | None:
        """The number of epochs at that step, if a record of the step has it."""
        for name, stream in self._streams.items():
            # A record of the log has the epoch after the step.
            if stream.records and name not in ("log", "static"):
                held: Any = open_run(self._path)[name]
                epochs = held["epoch"].values[held["step"].values == self.step]
                if len(epochs) and not np.isnan(epochs[0]):
                    return float(epochs[0])
        return None

    def capacities(self, live: Live) -> dict[tuple[str, str], int]:
        """Return the number of samples that fit into each live signal, by layer and signal.

        A random subset has none: it is drawn from the first batch, and another size would give other samples.
        """
        if isinstance(live.rows, Subset):
            return {}
        return {
            (layer, signal.name): signal.shape[signal.dims.index("sample")]
            for layer, signal in self._signals("live")
            if "sample" in signal.dims
        }

    def reduction(self, stream: str) -> Literal["raw", "factor"] | None:
        """Return the reduction of a stream's per-sample signals; None if it has no such signals."""
        signals = [signal for _, signal in self._signals(stream)]
        if any(signal.attrs.get("reduction") == "factor" for signal in signals):
            return "factor"
        return "raw" if any("sample" in signal.dims for signal in signals) else None

    def check(
        self,
        attached: AttachedModel,
        probes: Mapping[str, Probe],
        live: Live | None,
        feedback_hash: Mapping[str, str],
    ) -> None:
        """Compare the store with everything that is known before a pass.

        That is the last step, the layers, the feedback, the probes and the weights.

        Raises
        ------
        CaptureError
            Names the first difference, with the old and the new value.

        Warns
        -----
        CaptureWarning
            The last records of a killed run were not committed and will be missing.
        """
        self._check_end()
        self._check_layers(attached)
        self._check_feedback(attached.layers, feedback_hash)
        streams: dict[str, Probe | Live] = {**probes} if live is None else {**probes, "live": live}
        for name, given in streams.items():
            if (stream := self._streams.get(name)) is not None:
                what = f"probe {name!r}" if isinstance(given, Probe) else name
                have, now = {**stream.attrs}, {**given.attrs}
                if (reduction := self.reduction(name)) is not None:
                    have["reduction"] = reduction
                    now["reduction"] = reduction if given.reduction == "auto" else given.reduction
                self._same(what, have, now, now)
        self._check_weights(attached.layers)

    def check_declared(self, stream: str, layer: LayerSignals, signal: str, attrs: Mapping[str, Any]) -> None:
        """Compare the store with a pass: a layer's norm and gate, and the reduction of a signal.

        Raises
        ------
        CaptureError
            See `check`.
        """
        known = self._layers.get((stream, layer.name))
        if known is None:
            return
        # After a failed check the kind is unknown. It may have been known before, or become known again.
        checks = {x.get("error_bp_check") for x in (known.attrs, layer.attrs)}
        constant = [key for key in _CONSTANT if not (key == "feedback_kind" and "failed" in checks)]
        self._same(f"layer {layer.name!r}", known.attrs, layer.attrs, constant)
        stored = next((x for x in known.signals if x.name == signal), None)
        if stored is not None:
            # A training batch, or an expert's share of it, may differ in size from the first one. A probe's
            # gradient belongs to the whole batch, which does not change.
            keys = attrs.keys() - (() if is_batch_sum(signal) else {"samples", "rows"})
            self._same(f"{signal} of layer {layer.name!r} in stream {stream!r}", stored.attrs, attrs, keys)

    def warn_unfinished(self, state_signals: Collection[str]) -> None:
        """Warn that the run was closed at this step, so its record has no update."""
        if self.resume_from is None and "update" in state_signals:
            warn_user(
                f"the state of step {self.step} has no gradient and update, since the run was closed there; "
                f"give resume_from={self.step} to record that step anew"
            )

    @property
    def _path(self) -> Path:
        return self.summary.info.path

    @cached_property
    def _layers(self) -> Mapping[tuple[str, str], LayerSummary]:
        return {(stream.name, x.name): x for stream in self.summary.streams for x in stream.layers}

    @cached_property
    def _streams(self) -> Mapping[str, StreamSummary]:
        return {stream.name: stream for stream in self.summary.streams}

    @property
    def _last(self) -> int:
        return max((s.last_step for s in self.summary.streams if s.last_step is not None), default=0)

    def _signals(self, stream: str) -> Iterator[tuple[str, SignalSummary]]:
        for layer in self._streams[stream].layers if stream in self._streams else ():
            yield from ((layer.name, signal) for signal in layer.signals)

    def _same(self, what: str, have: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> None:
        for key in sorted(keys):
            if key in have and key in now and have[key] != now[key]:
                raise CaptureError(
                    f"{what} has {key} {have[key]!r} in {self._path} and {now[key]!r} now; {_OTHERWISE}"
                )

    def _check_end(self) -> None:
        """Raise if the run in the store is known to have ended before the current step."""
        streams, status = self.summary.streams, self.summary.info.status
        log, end = self._streams.get("log"), None
        if log is not None and log.last_step is not None and log.records == log.last_step + 1:
            end = max(self._last, log.last_step + 1)  # a record for every update
        read = [stream for stream in streams if stream.attrs.get("kind") in ("probe", "state")]
        if status == "complete" and any(stream.records for stream in read):
            end = self._last  # close() recorded the last step
        if end is None or self.step <= end or any(s.skipped for s in streams):
            return
        if status == "killed":
            warn_user(
                f"{self._path} was killed and holds nothing beyond step {self._last}: what was recorded from "
                f"there to step {self.step}, where the run goes on, is lost"
            )
            return
        raise CaptureError(
            f"resume_from is {self.step}, and {self._path} ends at step {end}: it is not known what came "
            "after; give the step of a checkpoint taken until then, or record into a separate store"
        )

    def _check_layers(self, attached: AttachedModel) -> None:
        layers = {layer.name: layer for layer in attached.layers}
        modules = dict(attached.module.named_modules())
        for stream in self.summary.streams:
            for known in stream.layers:
                if (layer := layers.get(known.name)) is not None:
                    now = layer_attrs(layer, 0, 1, layer)
                    self._same(f"layer {layer.name!r}", known.attrs, now, _CONSTANT)
                elif stream.name == "static" and known.name not in modules:
                    raise CaptureError(
                        f"{self._path} holds a layer {known.name!r}, which the model lacks; {_OTHERWISE}"
                    )

    def _check_feedback(self, layers: Sequence[RecordedLayer], now: Mapping[str, str]) -> None:
        held = self.summary.info.manifest.get("feedback_hash", {})
        for layer in layers:
            have, own = held.get(layer.name), now.get(layer.name)
            if have and own and have != own and layer.feedback_is_fixed:
                raise CaptureError(
                    f"the feedback B of layer {layer.name!r} is not that of {self._path} (SHA-256 "
                    f"{have[:12]}... there, {own[:12]}... now); convert the model under the seed it had, or "
                    "load its checkpoint, before resuming, or record into a separate store"
                )

    def _check_weights(self, layers: Sequence[RecordedLayer]) -> None:
        """Compare the weights with the record of the model's step, if that record exists."""
        if "state" not in self._streams or not self._streams["state"].records:
            return
        held: Any = open_run(self._path)["state"]
        if self.step not in held["step"].values:
            return
        for layer in owners_of(layers).values():
            known = held.children.get(layer_key(layer.name), {})
            if "weight" not in known:
                continue
            stored = known["weight"].sel(step=self.step).values
            now = to_array(layer.matrix(layer.weight))
            # The values are all NaN if an earlier session recorded other layers.
            if not np.isnan(stored).all() and not np.array_equal(stored, now, equal_nan=True):
                raise CaptureError(
                    f"the weight of layer {layer.name!r} is not the one that {self._path} holds at step "
                    f"{self.step} ({np.count_nonzero(stored != now)} of {now.size} entries differ); load the "
                    f"checkpoint of step {self.step} before resuming, or give resume_from= the step that the "
                    "model is at"
                )


def earlier_run(path: Path, *, resume: bool, resume_from: int | None) -> EarlierRun | None:
    """Return the contents of the store; None for a new store, or for one that the writer will refuse.

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        See `fadiag.open_run`.
    """
    if resume_from is None and not (resume and path.exists()):
        return None
    summary = inspect_run(path)
    return None if summary.info.status in {"recording", "sealed"} else EarlierRun(summary, resume_from)
