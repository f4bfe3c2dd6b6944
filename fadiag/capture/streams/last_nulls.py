"""Add nulls to the last record of a probe.

A record is read before the recorder knows that it is the last one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fadiag.capture.signals.layer_signals import LayerSignals, SignalArray
from fadiag.capture.warn import warn_user
from fadiag.signals import role_of

__all__ = ["with_nulls"]

#: Two readings of the same weights have a smaller relative difference than this, on any device.
_SAME = 1e-3


def with_nulls(held: Sequence[LayerSignals], last: Sequence[LayerSignals], probe: str) -> list[LayerSignals]:
    """Return a record together with the nulls of a later reading.

    If the model or the batch changed in between, the nulls do not belong to the record. They are then left
    out, with a warning.

    Parameters
    ----------
    held, last : sequence of LayerSignals
        Two readings of one probe; the second has nulls.
    probe : str
        The probe's name, for the warning.
    """
    if len(held) != len(last) or not all(map(_is_same, held, last)):
        warn_user(
            f"the nulls of the last record of probe {probe!r} are left out: the model or the batch changed "
            "between the last update and close(); close the recorder before you change them"
        )
        return list(held)
    return [
        replace(one, attrs={**one.attrs, **other.attrs}, signals={**one.signals, **_nulls_of(other)})
        for one, other in zip(held, last, strict=True)
    ]


def _nulls_of(layer: LayerSignals) -> dict[str, SignalArray]:
    return {name: array for name, array in layer.signals.items() if role_of(name).null}


def _is_same(one: LayerSignals, other: LayerSignals) -> bool:
    for name, signal in one.signals.items():
        if name not in other.signals or other.signals[name].array.shape != signal.array.shape:
            return False
        a, b = signal.array, other.signals[name].array
        scale = float(np.nanmax(np.abs(a), initial=0.0))
        if not np.allclose(a, b, rtol=_SAME, atol=_SAME * scale, equal_nan=True):
            return False
    return True
