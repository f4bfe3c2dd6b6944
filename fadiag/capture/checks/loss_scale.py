"""Warn about a GradScaler that the recorder does not know."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from fadiag.capture.signals.layer_signals import LayerSignals
from fadiag.capture.warn import warn_user

__all__ = ["LossScaleCheck"]

#: A GradScaler starts at 65,536. The batches of one run, and their sizes, differ by far less.
_LARGEST_RATIO = 1000


class LossScaleCheck:
    """Compares the live errors with a probe's errors once; both belong to the mean loss of one network."""

    def __init__(self) -> None:
        self._probe: dict[str, float] = {}
        self._is_done = False

    def see_probe(self, read: Sequence[LayerSignals]) -> None:
        """Store the errors of a probe's reading; the last reading is compared."""
        if not self._is_done:
            self._probe |= _per_sample(read)

    def see_live(self, read: Sequence[LayerSignals]) -> None:
        """Warn if the errors of a training step are far larger than the probe's."""
        if self._is_done or not self._probe:
            return  # the norms below cost more than a copy of the errors
        live = _per_sample(read)
        ratios = [live[name] / norm for name, norm in self._probe.items() if name in live and norm > 0]
        if not ratios:
            return
        self._is_done, ratio = True, float(np.median(ratios))
        if ratio > _LARGEST_RATIO:
            warn_user(
                f"live errors are about {ratio:,.0f} times those of the probe. Does a GradScaler multiply "
                "the loss? Then give Recorder(..., scaler=scaler), which divides them again. Is it a sum "
                "over the batch? Then the two streams have errors of different losses"
            )


def _per_sample(read: Sequence[LayerSignals]) -> dict[str, float]:
    """Return, by layer, the root mean square over the samples of the norm of each sample's error.

    A stored factor has the same norm as its signal.
    """
    return {
        layer.name: float(np.linalg.norm(layer.signals["error"].array.astype(np.float64))) * sqrt(layer.rows)
        for layer in read
        if "error" in layer.signals and layer.rows
    }
