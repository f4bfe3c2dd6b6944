"""fadiag: record and measure the geometry of credit signals under Feedback Alignment.

The names below are loaded when first used, so that ``import fadiag`` stays fast and analysing a store
imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fadiag.analysis import analyze as analyze
    from fadiag.capture import LayerAdapter as LayerAdapter
    from fadiag.capture import Probe as Probe
    from fadiag.capture import Recorder as Recorder
    from fadiag.errors import FadiagError as FadiagError
    from fadiag.rules import convert as convert
    from fadiag.store import open_run as open_run

_HOME = {
    "FadiagError": "fadiag.errors",
    "LayerAdapter": "fadiag.capture",
    "Probe": "fadiag.capture",
    "Recorder": "fadiag.capture",
    "analyze": "fadiag.analysis",
    "convert": "fadiag.rules",
    "open_run": "fadiag.store",
}

__all__ = [*sorted(_HOME), "__version__"]  # noqa: PLE0604 - a list of strings, built


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fadiag' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
