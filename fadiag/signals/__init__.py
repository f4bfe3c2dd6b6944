"""List the signals that a run can record, with the definition and the source of each.

The recorder, the analysis and the documentation read this table. To add a signal, add a row to
`fadiag.signals.table`, read it in `fadiag.capture`, and test it. Only `fadiag.signals.names` parses the names
of arrays.
"""

from fadiag.signals.names import (
    SignalRole,
    is_batch_sum,
    is_free_label,
    nulls_of,
    part_of,
    role_of,
    signal_of,
    under_feedback,
)
from fadiag.signals.spec import NullSpec, PartSpec, SignalSpec, StreamKind
from fadiag.signals.table import NULL_STATISTICS, NULLS, PARTS, SIGNALS, TWINS, signals_of

__all__ = [
    "NULLS",
    "NULL_STATISTICS",
    "PARTS",
    "SIGNALS",
    "TWINS",
    "NullSpec",
    "PartSpec",
    "SignalRole",
    "SignalSpec",
    "StreamKind",
    "is_batch_sum",
    "is_free_label",
    "nulls_of",
    "part_of",
    "role_of",
    "signal_of",
    "signals_of",
    "under_feedback",
]
