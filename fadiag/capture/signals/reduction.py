"""What is kept of a batch's signals: all values, or a factor of their matrix and what stands beside it.

Both take the same and return the same, so that what calls them need not know which it has.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fadiag.capture.signals.arrays import Array, to_array, to_arrays
from fadiag.capture.signals.qr_factor import Panels, factor, unit_rows
from fadiag.capture.signals.samples import Rows, SampleSubset
from fadiag.capture.signals.signal import ONE_SHAPE, Reading, SignalArray
from fadiag.errors import CaptureError, InputError
from fadiag.store import UNFOLDINGS, Unfolding, channel_of

__all__ = ["Factors", "Raw", "Reduction", "ReductionName", "reduction_of"]

ReductionName = Literal["raw", "factor"]

#: Samples looked at together for their norms and cosines.
_SAMPLES = 32


class Reduction(Protocol):
    """From the readings of one call of a layer, a list of micro-batches each, to what is stored.

    ``samples`` knows which samples are kept.
    """

    samples: SampleSubset

    def __call__(
        self, layer: str, readings: Mapping[str, Sequence[Reading]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Reduce the signals of one call of a layer, in a step of ``batch`` samples."""


def reduction_of(name: ReductionName, unfolding: Unfolding, rows: Rows) -> Reduction:
    """Return a reduction by its name.

    Raises
    ------
    InputError
        An unknown reduction or unfolding, or rows that are none of what they can be.
    """
    if name not in ("raw", "factor"):
        raise InputError(f"reduction is {name!r}; it is 'raw' or 'factor'")
    if unfolding not in UNFOLDINGS:
        raise InputError(f"unfolding is {unfolding!r}; it is 'samples' or 'channels'")
    return Raw(rows) if name == "raw" else Factors(unfolding, rows)


class Raw:
    """Every value of the chosen samples."""

    def __init__(self, rows: Rows = None) -> None:
        self.samples = SampleSubset(rows)

    def __call__(
        self, layer: str, readings: Mapping[str, Sequence[Reading]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return each signal's values, its micro-batches one below the other."""
        taken: dict[str, Sequence[Tensor]] = {}
        for name, parts in readings.items():
            values: Sequence[Tensor] = [part.values for part in parts]
            chooses = parts[0].of_samples
            taken[name] = self.samples.take(layer, name, values, batch) if chooses else values
            check_positions(layer, name, taken[name], channels=False, dims=parts[0].dims)
        arrays = iter(to_arrays([value for values in taken.values() for value in values]))
        found = {}
        for name, chosen in taken.items():
            own = [next(arrays) for _ in chosen]
            joined: Array = own[0] if len(own) == 1 else np.concatenate(own)
            found[name] = SignalArray(joined, readings[name][0].dims, readings[name][0].attrs)
        return found


class Factors:
    """The factor of each signal's matrix, and of a signal and its true twin together.

    Where a signal has at least as many rows as columns, its factor is R of the QR of [1 | X], or of
    [1 | X | X_bp]: each signal is a block of its columns. Where a row is a sample and there are fewer rows
    than columns, it is L of the LQ of X, or of X and X_bp one below the other: the samples in coordinates of
    their common span.

    Beside them stand, of each signal, the norm of each sample, sums of powers of the rows' norms, the factor
    of the rows at length one (where the rows are not kept), and each sample's cosine with the twin.
    """

    def __init__(self, unfolding: Unfolding, rows: Rows = None) -> None:
        self._unfolding: Unfolding = unfolding
        self.samples = SampleSubset(rows)
        self._raw = Raw(rows)

    def __call__(
        self, layer: str, readings: Mapping[str, Sequence[Reading]], batch: int = 0
    ) -> dict[str, SignalArray]:
        """Return the factors, what stands beside them, and what is no matrix of samples as it is."""
        found: dict[str, SignalArray] = {}
        taken: dict[str, Sequence[Tensor]] = {}
        for name, parts in readings.items():
            if parts[0].of_samples and len(parts[0].dims) > 1:
                values = [_with_float64(part.values) for part in parts]
                taken[name] = self.samples.take(layer, name, values, batch)
            else:
                found |= self._raw(layer, {name: parts}, batch)
        for name, chosen in taken.items():
            twin = f"{name}_bp"
            if name.removesuffix("_bp") in taken and name.endswith("_bp"):
                continue  # stands with the signal whose twin it is
            group = {name: chosen}
            if twin in taken and [v.shape for v in taken[twin]] == [v.shape for v in chosen]:
                group[twin] = taken[twin]
            dims = readings[name][0].dims
            if self._unfolding == "channels" and len(dims) > 2 and channel_of(dims) is None:
                raise CaptureError(
                    f"the channel axis of {name} of layer {layer!r} is not known: its axes {dims} are not "
                    "those of the layer's output, since something stood between; record it with "
                    "unfolding='samples' or reduction='raw', or leave it out by signals=[...]"
                )
            check_positions(layer, name, group[name], channels=self._unfolding == "channels", dims=dims)
            found |= self._reduced(group, dims, self.samples.count(layer, name))
        return found

    def _reduced(
        self, group: Mapping[str, Sequence[Tensor]], dims: tuple[str, ...], samples: int
    ) -> dict[str, SignalArray]:
        """Return what is kept of a signal, or of a signal and its twin."""
        channels = self._unfolding == "channels" and len(dims) > 2
        matrices = {name: _panels(parts, dims, channels=channels) for name, parts in group.items()}
        _, columns, positions = next(iter(matrices.values()))[0].shape
        seen = sum(len(part) for part in next(iter(group.values())))
        attrs = {
            "reduction": "factor",
            "unfolding": self._unfolding if len(dims) > 2 else "both",
            "samples": seen,
            "rows": seen * positions,
            "columns": columns,
        }
        axis = str(channel_of(dims)) if channels else "_".join(dims[1:])
        # A signal that is not finite must not spoil its twin: zeros stand for it, then NaN in all it has.
        bad = {name for name, parts in matrices.items() if not all(map(_finite, parts))}
        for name in bad:
            matrices[name] = [torch.zeros_like(part) for part in matrices[name]]
        by_rows = samples >= columns or channels
        if channels:  # whose positions may be more in another step: as many rows as there can be
            samples = max(samples, 1 + 2 * columns)
        found = (_tall if by_rows else _wide)(matrices, samples, axis, attrs)
        for key, signal in found.items():
            if max((name for name in group if f"{key}_".startswith(f"{name}_")), key=len) in bad:
                signal.array.fill(np.nan)
        if len(group) == 2:
            found[f"{next(iter(group))}_cosine"] = SignalArray(
                _cosines(*group.values()), ("sample",), {"nan_means": "a sample of zeros"}
            )
        return found


def _with_float64(values: Tensor) -> Tensor:
    return values.cpu() if values.device.type == "mps" else values


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def check_positions(
    layer: str, name: str, parts: Sequence[Tensor], *, channels: bool, dims: tuple[str, ...]
) -> None:
    """Raise where the micro-batches of a step cannot stand one below the other."""
    axis = dims.index(str(channel_of(dims))) if channels and len(dims) > 2 else None
    shapes = {tuple(part.shape[1:]) if axis is None else (part.shape[axis],) for part in parts}
    if len(shapes) > 1:
        raise CaptureError(
            f"the micro-batches of one step have {name} of layer {layer!r} in the shapes "
            f"{' and '.join(str(tuple(part.shape)) for part in parts)}; {ONE_SHAPE}"
        )


def _panels(parts: Sequence[Tensor], dims: tuple[str, ...], *, channels: bool) -> list[Tensor]:
    if not channels:
        return [part.flatten(1).unsqueeze(2) for part in parts]
    axis = dims.index(str(channel_of(dims)))
    return [part.movedim(axis, 1).flatten(2) for part in parts]


def _tall(
    matrices: Mapping[str, Panels], samples: int, axis: str, attrs: Mapping[str, object]
) -> dict[str, SignalArray]:
    """Return the factor of the rows, as blocks of its columns, and what looks at single rows."""
    found: dict[str, SignalArray] = {}
    _, columns, positions = next(iter(matrices.values()))[0].shape
    rows, told = samples * positions, {**attrs, "factor_side": "rows"}
    whole = factor(*matrices.values())
    for place, (name, panels) in enumerate(matrices.items()):
        block = whole[: 1 + (place + 1) * columns, 1 + place * columns : 1 + (place + 1) * columns]
        height = min(rows, 1 + (place + 1) * columns)
        dims = (f"factor_{axis}" if place == 0 else f"factor_{axis}_bp", axis)
        found[name] = SignalArray(_stored(block, height, panels[0]), dims, told)
        if place:
            found |= _spectra(name, block, block[1:], min(rows, columns), axis)
        # The factor's first row is sqrt(rows), then sqrt(rows) times the mean row; of no rows there is none.
        mean = block[:1].sum(dim=0) / whole[:1, 0].sum()
        squares, fourth, unit = unit_rows(panels, mean)
        kept = _stored(unit[:, 1:], 1 + columns, panels[0])
        found[f"{name}_row_normalized"] = SignalArray(kept, (f"factor_{axis}_unit", axis), told)
        count = squares.new_tensor(float(len(squares)))  # positions may be more in another step
        moments = torch.stack([count, squares.sum(), squares.square().sum(), fourth])
        found[f"{name}_row_moments"] = SignalArray(to_array(moments), ("moment",))
        of_parts = torch.split(squares, [len(part) * part.shape[2] for part in panels])
        sums = [s.reshape(len(p), p.shape[2]).sum(dim=1) for s, p in zip(of_parts, panels, strict=True)]
        norms = torch.cat(sums).sqrt()
        found[f"{name}_norm"] = SignalArray(to_array(norms), ("sample",))
    return found


def _wide(
    matrices: Mapping[str, Panels], samples: int, axis: str, attrs: Mapping[str, object]
) -> dict[str, SignalArray]:
    """Return the coordinates of the samples in the span of all of them: as many columns as samples."""
    joined = {name: torch.cat(list(panels)) for name, panels in matrices.items()}
    columns = next(iter(joined.values())).shape[1]
    width = min(columns, len(joined) * samples)
    upper = factor(*([matrix.transpose(0, 1)] for matrix in joined.values()), ones=False)
    lower = pad(upper.T, (0, width - len(upper)))  # a batch may have fewer samples than the first
    dims = ("sample", f"coordinate_{axis}" + ("_pair" if len(joined) > 1 else ""))
    found: dict[str, SignalArray] = {}
    blocks = torch.split(lower, [len(matrix) for matrix in joined.values()])
    for place, (name, block) in enumerate(zip(joined, blocks, strict=True)):
        kept = to_array(block.to(_kept(joined[name])))
        found[name] = SignalArray(kept, dims, {**attrs, "factor_side": "columns"})
        if place:
            found |= _spectra(name, block, block - block.mean(dim=0), samples, axis)
        norms = torch.linalg.vector_norm(block, dim=1)
        found[f"{name}_norm"] = SignalArray(to_array(norms), ("sample",))
    return found


def _spectra(name: str, block: Tensor, centered: Tensor, length: int, axis: str) -> dict[str, SignalArray]:
    """Return the singular values of a twin in float64, zeros after them where a batch had fewer rows.

    Rounded to float32, a block that stands in the basis of another signal may be 3e-8 off in its effective
    rank; one in its own basis, where row after row is smaller, is 5e-9 off at most.
    """
    found = {}
    for kind, matrix in (("raw", block), ("centered", centered)):
        values = torch.linalg.svdvals(matrix)[:length]
        values = pad(values, (0, length - len(values)))
        found[f"{name}_spectrum_{kind}"] = SignalArray(to_array(values), (f"value_{axis}",))
    return found


def _kept(values: Tensor) -> torch.dtype:
    """Return the precision in which the factor of these values is stored: their own, float32 at least."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _stored(block: Tensor, height: int, like: Tensor) -> Array:
    """Return the first rows of a factor, with rows of zeros where a batch had fewer than the first."""
    block = pad(block[:height], (0, 0, 0, max(0, height - len(block))))
    return to_array(block.to(_kept(like)).contiguous())


def _cosines(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> Array:
    """Return each sample's cosine; NaN where one of the two is zero, and so has no direction.

    A few samples at a time: their float64 copies stay small.
    """
    found = []
    for x, y in zip(xs, ys, strict=True):
        for pair in zip(torch.split(x, _SAMPLES), torch.split(y, _SAMPLES), strict=True):
            a, b = (_scaled(z.flatten(1).double()) for z in pair)
            lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
            found.append(((a * b).sum(dim=1) / lengths).clamp(-1.0, 1.0))  # 0 / 0 where one is dead
    return to_array(torch.cat(found))


def _scaled(rows: Tensor) -> Tensor:
    peak = rows.abs().amax(dim=1, keepdim=True)  # squares of tiny values would vanish
    return rows / torch.where(peak > 0, peak, 1.0)
