"""fadiag: record and measure the geometry of credit signals under Feedback Alignment.

The names and packages below are loaded when first used. ``import fadiag`` stays fast, and analyzing a store
imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

#: The version has this one source; the wheel takes it from here.
__version__ = "0.2.0"

if TYPE_CHECKING:
    from fadiag import analysis as analysis
    from fadiag import capture as capture
    from fadiag import errors as errors
    from fadiag import figures as figures
    from fadiag import report as report
    from fadiag import results as results
    from fadiag import rules as rules
    from fadiag import spectra as spectra
    from fadiag import store as store
    from fadiag import studies as studies
    from fadiag import testing as testing
    from fadiag import training as training
    from fadiag.analysis import effective_rank as effective_rank
    from fadiag.analysis import effective_rank_energy as effective_rank_energy
    from fadiag.analysis import participation_ratio as participation_ratio
    from fadiag.analysis import stable_rank as stable_rank
    from fadiag.analysis.analyze import analyze as analyze
    from fadiag.analysis.compare import compare as compare
    from fadiag.capture import LayerAdapter as LayerAdapter
    from fadiag.capture import Live as Live
    from fadiag.capture import Probe as Probe
    from fadiag.capture import Recorder as Recorder
    from fadiag.capture import Storage as Storage
    from fadiag.capture import record_arrays as record_arrays
    from fadiag.errors import FadiagError as FadiagError
    from fadiag.results import load_results as load_results
    from fadiag.results import save_results as save_results
    from fadiag.results import select as select
    from fadiag.rules import convert as convert
    from fadiag.store import inspect_run as inspect_run
    from fadiag.store import open_run as open_run

_HOME = {
    "FadiagError": "fadiag.errors",
    "LayerAdapter": "fadiag.capture",
    "Live": "fadiag.capture",
    "Probe": "fadiag.capture",
    "Recorder": "fadiag.capture",
    "Storage": "fadiag.capture",
    "analyze": "fadiag.analysis",
    "compare": "fadiag.analysis",
    "convert": "fadiag.rules",
    "effective_rank": "fadiag.analysis",
    "effective_rank_energy": "fadiag.analysis",
    "inspect_run": "fadiag.store",
    "load_results": "fadiag.results",
    "open_run": "fadiag.store",
    "participation_ratio": "fadiag.analysis",
    "record_arrays": "fadiag.capture",
    "save_results": "fadiag.results",
    "select": "fadiag.results",
    "stable_rank": "fadiag.analysis",
}

_PACKAGES = (
    "analysis",
    "capture",
    "errors",
    "figures",
    "report",
    "results",
    "rules",
    "spectra",
    "store",
    "studies",
    "testing",
    "training",
)

__all__ = [*sorted((*_HOME, *_PACKAGES)), "__version__"]  # noqa: PLE0604 - a list of strings, built


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return import_module(f"fadiag.{name}")
    raise AttributeError(f"module 'fadiag' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
