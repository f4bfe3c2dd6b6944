"""Raw stores every value of the chosen samples, without a reduction."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from fadiag.capture.signals.arrays import Array, to_arrays
from fadiag.capture.signals.layer_signals import ONE_SHAPE, SignalArray, SignalTensor
from fadiag.capture.signals.samples import Rows, SampleSubset
from fadiag.errors import CaptureError
from fadiag.store import channel_of

__all__ = ["Raw", "check_one_shape"]


class Raw:
    """The reduction that stores every value of the chosen samples.

    Parameters
    ----------
    rows : int or Subset, optional
        The samples to store; all by default.
    """

    def __init__(self, rows: Rows = None) -> None:
        self.samples = SampleSubset(rows)

    def __call__(
        self, layer: str, signals: Mapping[str, Sequence[SignalTensor]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return the values of each signal, with its micro-batches concatenated."""
        taken: dict[str, Sequence[Tensor]] = {}
        for name, parts in signals.items():
            values: Sequence[Tensor] = [part.values for part in parts]
            taken[name] = self.samples.take(layer, name, values, batch) if parts[0].per_sample else values
            check_one_shape(layer, name, taken[name], parts[0].dims, channels=False)
        # All together, so that a CUDA device is synchronized once.
        arrays = iter(to_arrays([value for values in taken.values() for value in values]))
        found = {}
        for name, values in taken.items():
            own = [next(arrays) for _ in values]
            joined: Array = own[0] if len(own) == 1 else np.concatenate(own)
            found[name] = SignalArray(joined, signals[name][0].dims, signals[name][0].attrs)
        return found


def check_one_shape(
    layer: str, name: str, parts: Sequence[Tensor], dims: tuple[str, ...], *, channels: bool
) -> None:
    """Raise CaptureError if the micro-batches of a step cannot be concatenated.

    With ``channels`` the number of positions may differ, because each position is a row.
    """
    if len(parts) < 2:
        return
    axis = dims.index(str(channel_of(dims))) if channels and len(dims) > 2 else None
    shapes = {tuple(part.shape[1:]) if axis is None else (part.shape[axis],) for part in parts}
    if len(shapes) > 1:
        raise CaptureError(
            f"the micro-batches of one step have {name} of layer {layer!r} in the shapes "
            f"{' and '.join(str(tuple(part.shape)) for part in parts)}; {ONE_SHAPE}"
        )
