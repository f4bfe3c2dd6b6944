"""Recording what each layer of a network receives, without changing the run."""

from fadiag.capture.adapter import LayerAdapter, exact_layers
from fadiag.capture.adapters import DEFAULT_ADAPTERS
from fadiag.capture.live import LIVE_SIGNALS, Live
from fadiag.capture.probe import PROBE_SIGNALS, Probe
from fadiag.capture.recorder import Recorder
from fadiag.capture.reduction import Factors
from fadiag.capture.rows import Subset
from fadiag.capture.schedule import Schedule, as_schedule, every, listed, logarithmic
from fadiag.capture.signals import LayerSignals, Signal
from fadiag.capture.state import STATE_SIGNALS

__all__ = [
    "DEFAULT_ADAPTERS",
    "LIVE_SIGNALS",
    "PROBE_SIGNALS",
    "STATE_SIGNALS",
    "Factors",
    "LayerAdapter",
    "LayerSignals",
    "Live",
    "Probe",
    "Recorder",
    "Schedule",
    "Signal",
    "Subset",
    "as_schedule",
    "every",
    "exact_layers",
    "listed",
    "logarithmic",
]
