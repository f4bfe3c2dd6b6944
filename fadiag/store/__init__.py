"""Write and read the store of a run: one zarr folder that grows step by step and is readable at any time.

Examples
--------
>>> from fadiag.store import layer_key
>>> layer_key("encoder/0")
'encoder%2F0'
"""

from fadiag.store.axes import ROW_COUNT_SIGNAL, UNFOLDINGS, Unfolding, channel_of, rows_of_layer
from fadiag.store.layout import ArraySpec
from fadiag.store.names import check_scalar, layer_key
from fadiag.store.read.open import RunInfo, open_run, run_info
from fadiag.store.tools.compact import compact
from fadiag.store.tools.export import export_netcdf
from fadiag.store.tools.inspect import LayerSummary, RunSummary, SignalSummary, StreamSummary, inspect_run
from fadiag.store.tools.layer_table import layer_table
from fadiag.store.tools.printable import printable
from fadiag.store.tools.verify import Verification, verify_run
from fadiag.store.values import check_number
from fadiag.store.write.writer import RunWriter

__all__ = [
    "ROW_COUNT_SIGNAL",
    "UNFOLDINGS",
    "ArraySpec",
    "LayerSummary",
    "RunInfo",
    "RunSummary",
    "RunWriter",
    "SignalSummary",
    "StreamSummary",
    "Unfolding",
    "Verification",
    "channel_of",
    "check_number",
    "check_scalar",
    "compact",
    "export_netcdf",
    "inspect_run",
    "layer_key",
    "layer_table",
    "open_run",
    "printable",
    "rows_of_layer",
    "run_info",
    "verify_run",
]


def __dir__() -> list[str]:
    return sorted(__all__)
