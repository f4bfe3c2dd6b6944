"""Going on in a store: whether what comes is the run that it holds."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fadiag.capture.layers.attributes import layer_attrs
from fadiag.capture.layers.selection import RecordedLayer, owners_of
from fadiag.capture.signals.arrays import to_array
from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.signals.samples import Subset
from fadiag.capture.streams.live import Live
from fadiag.capture.streams.probe import Probe
from fadiag.errors import CaptureError, CaptureWarning
from fadiag.signals import role_of
from fadiag.store import RunSummary, StreamSummary, inspect_run, layer_key, open_run

__all__ = ["Earlier", "earlier_run"]

#: What a layer has for the whole of a run; its place in the pass may change from pass to pass.
_CONSTANT = ("feedback_kind", "type", "out_features", "in_features", "norm", "gate")
_OF_FIRST = {"samples", "rows"}
_OTHERWISE = "resume with it as it was, or record into a store of its own"


@dataclass(frozen=True)
class Earlier:
    """What a store holds of the run that goes on, read before anything of it is changed.

    Attributes
    ----------
    summary : RunSummary
    resume_from : int, optional
        The step of the checkpoint that the run goes on from, where the user gave one.
    """

    summary: RunSummary
    resume_from: int | None

    @property
    def step(self) -> int:
        """The step that the model is at."""
        return self._last if self.resume_from is None else self.resume_from

    @property
    def epoch(self) -> float | None:
        """How many epochs the run had seen at that step, where a record of it tells."""
        # The log's records tell of the epoch after them.
        held = [s for s in self.summary.streams if s.records and s.name not in ("log", "static")]
        tree: Any = open_run(self._path) if held else {}
        for stream in held:
            told = tree[stream.name]["epoch"].values[tree[stream.name]["step"].values == self.step]
            if len(told) and not np.isnan(told[0]):
                return float(told[0])
        return None

    @property
    def _path(self) -> Path:
        return self.summary.info.path

    @property
    def _last(self) -> int:
        return max((s.last_step for s in self.summary.streams if s.last_step is not None), default=0)

    def _stream(self, name: str) -> StreamSummary | None:
        return next((stream for stream in self.summary.streams if stream.name == name), None)

    def check(
        self,
        model: nn.Module,
        layers: Sequence[RecordedLayer],
        probes: Mapping[str, Probe],
        live: Live | None,
        feedback_hash: Mapping[str, str],
    ) -> None:
        """Compare what can be known before a pass: where the store ends, layers, feedback, probes, weights.

        Raises
        ------
        CaptureError
            The first thing that differs, as it was and as it is.

        Warns
        -----
        CaptureWarning
            A killed run's last records, which were not committed, will be missing.
        """
        self._check_end()
        self._check_layers(model, layers)
        self._check_feedback(layers, feedback_hash)
        for name, probe in probes.items():
            self._check_stream(f"probe {name!r}", name, probe, {"mode": probe.mode})
        if live is not None:
            self._check_stream("live", "live", live, {})
        self._check_weights(layers)

    def _check_stream(self, what: str, name: str, given: Probe | Live, attrs: Mapping[str, str]) -> None:
        stream = self._stream(name)
        if stream is not None:
            now = {"reduction": given.reduction, "unfolding": given.unfolding, **attrs}
            self._same(what, tuple(now), {**stream.attrs, **_kept(stream)}, now)

    def rooms(self, live: Live) -> dict[tuple[str, str], int]:
        """Return for how many samples each live signal has room, by layer and signal.

        A subset is drawn anew, out of as many as the first batch has: where that is another number, it would
        be other samples, so there it is not told.
        """
        held = self._stream("live")
        if held is None or isinstance(live.rows, Subset):
            return {}
        return {
            (layer.name, signal.name): signal.shape[signal.dims.index("sample")]
            for layer in held.layers
            for signal in layer.signals
            if "sample" in signal.dims
        }

    def check_declared(self, stream: str, layer: LayerSignals, signal: str, attrs: Mapping[str, Any]) -> None:
        """Compare what a pass has shown: a layer's norm and gate, and how a signal is kept.

        Raises
        ------
        CaptureError
            As `check`.
        """
        held = self._stream(stream)
        known = next((x for x in held.layers if x.name == layer.name), None) if held else None
        if known is None:
            return
        self._same(f"layer {layer.name!r}", _CONSTANT, known.attrs, layer.attrs)
        stored = next((x for x in known.signals if x.name == signal), None)
        if stored is not None:
            what = f"{signal} of layer {layer.name!r} in stream {stream!r}"
            # How many samples a training batch has, or an expert is sent, is told of the first record. A
            # gradient is of a probe's whole batch, which stays.
            of_batch = (row := role_of(signal).signal) is not None and row.shape == "weight"
            keys = set(attrs) - (set() if of_batch else _OF_FIRST)
            self._same(what, sorted(keys), stored.attrs, attrs)

    def _same(self, what: str, keys: Sequence[str], have: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for key in keys:
            if key in have and key in now and have[key] != now[key]:
                raise CaptureError(
                    f"{what} has {key} {have[key]!r} in {self._path} and {now[key]!r} now; {_OTHERWISE}"
                )

    def _check_end(self) -> None:
        """Refuse a step that the run in the store never reached, where that can be told."""
        streams = self.summary.streams
        end, log = None, self._stream("log")
        if log is not None and log.last_step is not None and log.records == log.last_step + 1:
            end = max(self._last, log.last_step + 1)  # told of every update, it knows the last one
        if self.summary.info.status == "complete" and any(
            s.attrs.get("kind") in ("probe", "state") and s.records for s in streams
        ):
            end = self._last  # recorded at close
        if end is None or self.step <= end or any(s.skipped for s in streams):
            return
        if self.summary.info.status == "killed":
            warnings.warn(
                f"{self._path} was killed and holds nothing beyond step {self._last}: what was recorded from "
                f"there to step {self.step}, where the run goes on, is lost",
                CaptureWarning,
                stacklevel=4,
            )
            return
        raise CaptureError(
            f"resume_from is {self.step}, and {self._path} ends at step {end}: it is not known what came "
            "after; give the step of a checkpoint taken until then, or record into a store of its own"
        )

    def _check_layers(self, model: nn.Module, layers: Sequence[RecordedLayer]) -> None:
        modules, by_name = dict(model.named_modules()), {layer.name: layer for layer in layers}
        for stream in self.summary.streams:
            for known in stream.layers:
                layer = by_name.get(known.name)
                if layer is not None:
                    what = f"layer {layer.name!r}"
                    self._same(what, _CONSTANT, known.attrs, layer_attrs(layer, 0, 1, layer))
                elif stream.name == "static" and known.name not in modules:
                    raise CaptureError(
                        f"{self._path} holds a layer {known.name!r}, which the model has not; resume with "
                        "the model as it was, or record into a store of its own"
                    )

    def _check_feedback(self, layers: Sequence[RecordedLayer], now: Mapping[str, str]) -> None:
        told = self.summary.info.manifest.get("feedback_hash", {})
        for layer in layers:
            have, own = told.get(layer.name), now.get(layer.name)
            if have and own and have != own and layer.adapter.feedback_is_fixed(layer.module):
                raise CaptureError(
                    f"the feedback B of layer {layer.name!r} is not that of {self._path} (SHA-256 "
                    f"{have[:12]}... there, {own[:12]}... now); convert the model under the seed it had, or "
                    "load its checkpoint, before resuming, or record into a store of its own"
                )

    def _check_weights(self, layers: Sequence[RecordedLayer]) -> None:
        """Compare the weights with the record of the step that the model is at, where there is one."""
        state = self._stream("state")
        if state is None or not state.records:
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
            # Filled with NaN where an earlier session recorded other layers.
            if np.isnan(stored).all() or np.array_equal(stored, now, equal_nan=True):
                continue
            differ = np.count_nonzero(stored != now)
            raise CaptureError(
                f"the weight of layer {layer.name!r} is not the one that {self._path} holds at step "
                f"{self.step} ({differ} of {now.size} entries differ); load the checkpoint of step "
                f"{self.step} before resuming, or give resume_from= the step that the model is at"
            )


def _kept(stream: StreamSummary) -> dict[str, str]:
    """Return the reduction and the unfolding of a stream's signals, as far as they can be told."""
    signals = [signal for layer in stream.layers for signal in layer.signals]
    factors = [signal for signal in signals if signal.attrs.get("reduction") == "factor"]
    unfoldings = {str(signal.attrs.get("unfolding")) for signal in factors} - {"both"}
    kept = {"unfolding": unfoldings.pop()} if len(unfoldings) == 1 else {}
    if factors or any("sample" in signal.dims and len(signal.dims) > 2 for signal in signals):
        kept["reduction"] = "factor" if factors else "raw"
    return kept


def earlier_run(path: Path, *, resume: bool, resume_from: int | None) -> Earlier | None:
    """Return what a store holds; None where a new one is to be made, or the writer will refuse this one.

    Raises
    ------
    NotAStoreError, SchemaError, DamagedError
        As `fadiag.open_run`.
    """
    if resume_from is None and not (resume and path.exists()):
        return None
    summary = inspect_run(path)
    return None if summary.info.status in {"recording", "sealed"} else Earlier(summary, resume_from)
