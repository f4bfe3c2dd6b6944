"""Factors reduces each signal to a small QR factor of its matrix, to save disk space."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fadiag.capture.signals.arrays import Array, to_array
from fadiag.capture.signals.layer_signals import SignalArray, SignalTensor
from fadiag.capture.signals.qr_factor import Panels, factor, unit_rows
from fadiag.capture.signals.raw import Raw, check_one_shape
from fadiag.capture.signals.samples import Rows, SampleSubset
from fadiag.errors import CaptureError
from fadiag.signals import TWINS, part_of
from fadiag.store import Unfolding, channel_of

__all__ = ["Factors"]

#: The number of samples whose cosines are computed together, so that their float64 copies are small.
_SAMPLES = 32

#: The arrays of each signal: its factor, and the parts that the factor loses.
_Arrays = dict[str, dict[str, SignalArray]]


class Factors:
    """The reduction that stores a factor of each signal's matrix instead of its values.

    A signal and its twin under exact backpropagation are factored together. If the matrix X has at least as
    many rows as columns, the factor is R in the QR decomposition of [1 | X] or [1 | X | X_bp]. Each signal is
    then a block of R's columns. If the rows are samples and there are fewer rows than columns, the factor is
    L in the LQ decomposition of X, or of X above X_bp. L holds the samples in coordinates of their common
    span.

    Other arrays hold the information that a factor loses. They are each sample's norm, its cosine with the
    twin, the moments of the row norms, the factor of the rows at length one, and the spectrum of the twin.

    Parameters
    ----------
    unfolding : {"samples", "channels"}
        The rows of the matrix if the signal has positions: whole samples, or single positions.
    rows : int or Subset, optional
        The samples to reduce; all by default.

    Examples
    --------
    >>> error = SignalTensor(torch.ones(8, 3), ("sample", "out"))
    >>> found = Factors("samples")("fc1", {"error": [error]}, 8)
    >>> found["error"].array.shape, found["error"].attrs["reduction"]
    ((4, 3), 'factor')
    """

    def __init__(self, unfolding: Unfolding, rows: Rows = None) -> None:
        self._unfolding: Unfolding = unfolding
        self.samples = SampleSubset(rows)
        self._raw = Raw(rows)

    def __call__(
        self, layer: str, signals: Mapping[str, Sequence[SignalTensor]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return the factors and their parts; a signal without an axis of samples is returned unchanged."""
        found: dict[str, SignalArray] = {}
        taken: dict[str, Sequence[Tensor]] = {}
        for name, parts in signals.items():
            if parts[0].per_sample and len(parts[0].dims) > 1:
                given = [_with_float64(part.values) for part in parts]
                taken[name] = self.samples.take(layer, name, given, batch)
            else:
                found |= self._raw(layer, {name: parts}, batch)
        twins = {name: twin for name, twin in TWINS.items() if name in taken and twin in taken}
        for name, values in taken.items():
            if name in twins.values():
                continue  # factored together with its twin
            group = {name: values}
            twin = twins.get(name)
            if twin is not None and [v.shape for v in taken[twin]] == [v.shape for v in values]:
                group[twin] = taken[twin]
            dims = signals[name][0].dims
            if self._unfolding == "channels" and len(dims) > 2 and channel_of(dims) is None:
                raise CaptureError(
                    f"the channel axis of {name} of layer {layer!r} is not known: its axes {dims} are not "
                    "those of the layer's output, because an operation in between changed them; record it "
                    "with unfolding='samples' or reduction='raw', or leave it out by signals=[...]"
                )
            check_one_shape(layer, name, values, dims, channels=self._unfolding == "channels")
            found |= self._reduced(group, dims, self.samples.capacity_of(layer, name))
        return found

    def _reduced(
        self, group: Mapping[str, Sequence[Tensor]], dims: tuple[str, ...], samples: int
    ) -> dict[str, SignalArray]:
        """Return the arrays of a signal, or of a signal and its twin."""
        channels = self._unfolding == "channels" and len(dims) > 2
        matrices = {name: _panels(parts, dims, channels=channels) for name, parts in group.items()}
        first, *_ = group
        _, columns, positions = matrices[first][0].shape
        seen = sum(len(part) for part in group[first])
        attrs = {
            "reduction": "factor",
            "unfolding": self._unfolding if len(dims) > 2 else "both",
            "samples": seen,
            "rows": seen * positions,
            "columns": columns,
        }
        axis = str(channel_of(dims)) if channels else "_".join(dims[1:])
        # A signal that is not finite must not affect its twin: factor zeros, then overwrite them with NaN.
        bad = [name for name, parts in matrices.items() if not all(map(_is_finite, parts))]
        for name in bad:
            matrices[name] = [torch.zeros_like(part) for part in matrices[name]]
        tall = samples >= columns or channels
        if channels:  # a later step may have more positions: store the largest number of rows
            samples = max(samples, 1 + 2 * columns)
        arrays = (_reduce_tall if tall else _reduce_wide)(matrices, samples, axis, attrs)
        for name in bad:
            for signal in arrays[name].values():
                signal.array.fill(np.nan)
        found = {key: signal for of_signal in arrays.values() for key, signal in of_signal.items()}
        if len(group) == 2:
            found[part_of(first, "cosine")] = SignalArray(
                _cosines(*group.values()), ("sample",), {"nan_means": "a sample of zeros"}
            )
        return found


def _with_float64(values: Tensor) -> Tensor:
    return values.cpu() if values.device.type == "mps" else values


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _panels(parts: Sequence[Tensor], dims: tuple[str, ...], *, channels: bool) -> list[Tensor]:
    if not channels:
        return [part.flatten(1).unsqueeze(2) for part in parts]
    axis = dims.index(str(channel_of(dims)))
    return [part.movedim(axis, 1).flatten(2) for part in parts]


def _reduce_tall(
    matrices: Mapping[str, Panels], samples: int, axis: str, attrs: Mapping[str, object]
) -> _Arrays:
    """Reduce the rows of matrices that have at least as many rows as columns."""
    found: _Arrays = {}
    _, columns, positions = next(iter(matrices.values()))[0].shape
    rows, attrs = samples * positions, {**attrs, "factor_side": "rows"}
    whole = factor(*matrices.values())
    for place, (name, panels) in enumerate(matrices.items()):
        block = whole[: 1 + (place + 1) * columns, 1 + place * columns : 1 + (place + 1) * columns]
        height = min(rows, 1 + (place + 1) * columns)
        dims = (f"factor_{axis}" if place == 0 else f"factor_{axis}_bp", axis)
        arrays = {name: SignalArray(_stored(block, height, panels[0]), dims, attrs)}
        if place:
            arrays |= _spectra(name, block, block[1:], min(rows, columns), axis)
        # The factor's first row is sqrt(rows) times [1 | mean row]. With no rows, the factor is empty.
        mean = block[:1].sum(dim=0) / whole[:1, 0].sum()
        squares, fourth, unit = unit_rows(panels, mean)
        arrays[part_of(name, "row_normalized")] = SignalArray(
            _stored(unit[:, 1:], 1 + columns, panels[0]), (f"factor_{axis}_unit", axis), attrs
        )
        count = squares.new_tensor(float(len(squares)))  # a later step may have more positions
        moments = torch.stack([count, squares.sum(), squares.square().sum(), fourth])
        arrays[part_of(name, "row_moments")] = SignalArray(to_array(moments), ("moment",))
        of_parts = torch.split(squares, [len(part) * part.shape[2] for part in panels])
        sums = [s.reshape(len(p), p.shape[2]).sum(dim=1) for s, p in zip(of_parts, panels, strict=True)]
        arrays[part_of(name, "norm")] = SignalArray(to_array(torch.cat(sums).sqrt()), ("sample",))
        found[name] = arrays
    return found


def _reduce_wide(
    matrices: Mapping[str, Panels], samples: int, axis: str, attrs: Mapping[str, object]
) -> _Arrays:
    """Reduce the columns of matrices with fewer rows than columns, by a basis of the rows' span."""
    joined = {name: torch.cat(list(panels)) for name, panels in matrices.items()}
    columns = next(iter(joined.values())).shape[1]
    width = min(columns, len(joined) * samples)
    upper = factor(*([matrix.transpose(0, 1)] for matrix in joined.values()), ones=False)
    lower = pad(upper.T, (0, width - len(upper)))  # a batch may have fewer samples than the first one
    attrs = {**attrs, "factor_side": "columns"}
    dims = ("sample", f"coordinate_{axis}" + ("_pair" if len(joined) > 1 else ""))
    found: _Arrays = {}
    blocks = torch.split(lower, [len(matrix) for matrix in joined.values()])
    for place, (name, block) in enumerate(zip(joined, blocks, strict=True)):
        arrays = {name: SignalArray(to_array(block.to(_precision(joined[name]))), dims, attrs)}
        if place:
            arrays |= _spectra(name, block, block - block.mean(dim=0), samples, axis)
        norms = torch.linalg.vector_norm(block, dim=1)
        arrays[part_of(name, "norm")] = SignalArray(to_array(norms), ("sample",))
        found[name] = arrays
    return found


def _spectra(name: str, block: Tensor, centered: Tensor, length: int, axis: str) -> dict[str, SignalArray]:
    """Return the singular values of a twin in float64, padded with zeros if a batch had fewer rows.

    They are stored because the twin's block is in the basis of the other signal. From such a block, rounded
    to float32, the effective rank may be wrong by 3e-8. From a block in its own basis, whose values decrease
    from row to row, the error is at most 5e-9.
    """
    found = {}
    for part, matrix in (("spectrum_raw", block), ("spectrum_centered", centered)):
        values = torch.linalg.svdvals(matrix)[:length]
        values = pad(values, (0, length - len(values)))
        found[part_of(name, part)] = SignalArray(to_array(values), (f"value_{axis}",))
    return found


def _precision(values: Tensor) -> torch.dtype:
    """Return the dtype of a stored factor: float64 for float64 values, otherwise float32."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _stored(block: Tensor, height: int, like: Tensor) -> Array:
    """Return the first rows of a factor, padded with zeros if the batch has fewer rows than the first one."""
    block = pad(block[:height], (0, 0, 0, max(0, height - len(block))))
    return to_array(block.to(_precision(like)).contiguous())


def _cosines(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Array:
    """Return the cosine of each sample; NaN if one of the two vectors is zero."""
    found = []
    for x, y in zip(xs, ys, strict=True):
        for pair in zip(torch.split(x, _SAMPLES), torch.split(y, _SAMPLES), strict=True):
            a, b = (_scaled(z.flatten(1).double()) for z in pair)
            lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
            found.append(((a * b).sum(dim=1) / lengths).clamp(-1.0, 1.0))  # 0 / 0 if one is zero
    return to_array(torch.cat(found))


def _scaled(rows: Tensor) -> Tensor:
    peak = rows.abs().amax(dim=1, keepdim=True)  # squares of tiny values would underflow
    return rows / torch.where(peak > 0, peak, 1.0)
