"""Recording what each layer of a network receives, without changing the run."""

from fadiag.capture.array_recorder import ArrayRecorder, record_arrays
from fadiag.capture.layers.adapter import LayerAdapter, exact_layers
from fadiag.capture.layers.defaults import DEFAULT_ADAPTERS
from fadiag.capture.layers.direct import direct_hooks, direct_identity, direct_layers
from fadiag.capture.passes.isolation import is_out_of_band
from fadiag.capture.recorder import Recorder
from fadiag.capture.session.storage import Storage
from fadiag.capture.signals.factors import Factors
from fadiag.capture.signals.layer_signals import LayerSignals, SignalArray
from fadiag.capture.signals.samples import Subset
from fadiag.capture.streams.live import LIVE_SIGNALS, Live
from fadiag.capture.streams.probe import PROBE_SIGNALS, Probe
from fadiag.capture.streams.schedule import Schedule, as_schedule, every, listed, logarithmic
from fadiag.capture.streams.state import STATE_SIGNALS

__all__ = [
    "DEFAULT_ADAPTERS",
    "LIVE_SIGNALS",
    "PROBE_SIGNALS",
    "STATE_SIGNALS",
    "ArrayRecorder",
    "Factors",
    "LayerAdapter",
    "LayerSignals",
    "Live",
    "Probe",
    "Recorder",
    "Schedule",
    "SignalArray",
    "Storage",
    "Subset",
    "as_schedule",
    "direct_hooks",
    "direct_identity",
    "direct_layers",
    "every",
    "exact_layers",
    "is_out_of_band",
    "listed",
    "logarithmic",
    "record_arrays",
]


def __dir__() -> list[str]:
    return sorted(__all__)
